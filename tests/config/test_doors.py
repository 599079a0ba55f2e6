"""No door to other machines without a secret, and no secret that is none."""

from __future__ import annotations

import os
import stat

import pytest

from exkiq.config import default_name, from_command_line, from_keywords, is_loopback
from exkiq.config.addresses import split_address
from exkiq.errors import ConfigError
from exkiq.wire.shared_secrets import secrets_in

SECRET = "0123456789abcdef0123456789abcdef"
OPEN = {"bind": "192.168.1.10:7000"}


def faults_of(flags, environ=None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        from_command_line(flags, environ or {})
    return caught.value.faults


@pytest.fixture
def secret_file(tmp_path):
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    "flags",
    [
        OPEN,
        {"bind": "example.org:7000"},
        {"bind": "[fe80::1]:7000"},
        {"interfaces": ["192.168.1.10"]},
    ],
)
def test_an_open_door_needs_a_secret(flags, secret_file):
    """Anyone on the network could read and run jobs of a node started by accident."""
    (fault,) = faults_of(flags)
    assert next(iter(flags)) in fault
    assert "EXKIQ_SECRET" in fault
    assert "insecure" in fault
    assert from_command_line(flags, {"EXKIQ_SECRET": SECRET}).secret == SECRET.encode()
    assert from_command_line({**flags, "secret_file": str(secret_file)}, {}).secret is not None
    assert from_command_line({**flags, "insecure": True}, {}).secret is None


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "127.9.9.9:1", "localhost:0", "[::1]:0"])
def test_loopback_needs_none(bind):
    """A first start on one's own machine would ask for a secret."""
    assert from_command_line({"bind": bind}, {}).bind == bind


@pytest.mark.parametrize("bind", ["0.0.0.0:7000", "[::]:7000"])
def test_every_interface_is_no_address_to_dial(bind):
    """The others would be told to dial 0.0.0.0, which is themselves."""
    (fault,) = faults_of({"bind": bind, "insecure": True})
    assert "one interface" in fault


def test_a_short_secret_is_refused_and_never_shown(secret_file):
    """A secret that can be guessed, or one that stands in a log."""
    (fault,) = faults_of({}, {"EXKIQ_SECRET": "hunter2"})
    assert "7 bytes" in fault
    assert "32" in fault
    assert "hunter2" not in fault
    secret_file.write_text("hunter2\n")
    (fault,) = faults_of({"secret_file": str(secret_file)})
    assert str(secret_file) in fault
    assert "hunter2" not in fault
    assert SECRET not in repr(from_command_line({}, {"EXKIQ_SECRET": SECRET}))


@pytest.mark.parametrize("extra", [stat.S_IRGRP, stat.S_IROTH, stat.S_IWOTH])
def test_a_secret_that_others_can_read_is_refused(secret_file, extra):
    """Every user of the machine could join."""
    secret_file.chmod(0o600 | extra)
    (fault,) = faults_of({"secret_file": str(secret_file)})
    assert "chmod 600" in fault


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_secret_of_somebody_else_is_refused(secret_file):
    """Another user could choose the secret of our cluster."""
    os.chown(secret_file, 12_345, -1)
    (fault,) = faults_of({"secret_file": str(secret_file)})
    assert "another user" in fault


def test_a_secret_file_that_is_not_there_or_none(tmp_path):
    """The node would start open, or with a traceback."""
    (fault,) = faults_of({"secret_file": str(tmp_path / "nope")})
    assert "cannot read" in fault
    (fault,) = faults_of({"secret_file": str(tmp_path)})
    assert str(tmp_path) in fault


def test_an_endless_secret_file_is_refused(tmp_path):
    """A wrong path, a disk image say, would be read whole."""
    file = tmp_path / "big"
    file.write_bytes(b"x" * 5000)
    file.chmod(0o600)
    (fault,) = faults_of({"secret_file": str(file)})
    assert "that is no secret" in fault


def test_the_newline_of_an_editor_is_no_part_of_the_secret(secret_file):
    """Two nodes with the same secret, one written by an editor, would not know each other."""
    read = from_command_line({"secret_file": str(secret_file)}, {}).secret
    assert read == from_keywords({"secret": SECRET}, {}).secret == SECRET.encode()


def test_several_secrets_one_a_line(secret_file):
    """A secret could not be changed without stopping every node; a short one would be weak."""
    secret_file.write_text(f"{SECRET}\n{SECRET[::-1]}\n")
    read = from_command_line({"secret_file": str(secret_file)}, {}).secret
    assert secrets_in(read) == (SECRET.encode(), SECRET[::-1].encode())
    for text in (f"{SECRET}\nhunter2\n", f"hunter2\n{SECRET}\n", f"{SECRET}\n\n{SECRET}"):
        secret_file.write_text(text)
        (fault,) = faults_of({"secret_file": str(secret_file)})
        assert "in line" in fault
        assert "hunter2" not in fault
    (fault,) = faults_of({}, {"EXKIQ_SECRET": "\n".join([SECRET] * 5)})
    assert "at most 4" in fault
    random = b"\x00\xff" * 20 + b"\n" + b"\x01" * 5
    assert secrets_in(random) == (random,), "random bytes with a newline in them are one secret"


def test_two_secrets_are_refused(secret_file):
    """It would be left to chance which one counts."""
    with pytest.raises(ConfigError, match=r"secret .* excludes secret_file"):
        from_keywords({"secret": SECRET, "secret_file": str(secret_file)}, {})
    other = "x" * 32
    both = from_command_line({"secret_file": str(secret_file)}, {"EXKIQ_SECRET": other})
    assert both.secret == SECRET.encode()


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("web-1.example.org", "web-1"),
        ("Web_1", "web-1"),
        ("büro", "b-ro"),
        ("", "node"),
        ("---", "node"),
        ("x" * 80, "x" * 63),
    ],
)
def test_a_name_is_made_of_any_host(host, name):
    """A machine with an odd name could not start a node without --name."""
    assert default_name(host) == name


def test_addresses_are_split_as_people_write_them():
    """A port would be taken for a part of the host, or the other way round."""
    assert split_address("h:1") == ("h", 1)
    assert split_address("h") == ("h", 0)
    assert split_address("[::1]:7") == ("::1", 7)
    assert split_address("::1") == ("::1", 0)
    assert split_address("h:") == ("h", 0)
    for text in ("", ":", "h:-1", "h:1:2", "a b:1", "[::1]7", "[h]:1", "u@h:1"):
        with pytest.raises(ValueError):
            split_address(text)


def test_only_names_of_this_machine_are_loopback():
    """A name that resolves to another machine would open the door without a secret."""
    assert is_loopback("localhost")
    assert is_loopback("127.0.0.1")
    assert not is_loopback("localhost.example.org")
    assert not is_loopback("10.0.0.1")
