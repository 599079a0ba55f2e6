"""`exkiq certs`: keys for their owner only, nothing written over, and files that work."""

from __future__ import annotations

import os
import stat
import sys

import pytest

from exkiq.config import certificates, from_command_line
from exkiq.errors import ConfigError
from exkiq.staffing import environ_of_jobs


@pytest.fixture
def folder(run, tmp_path):
    made = tmp_path / "certs"
    assert run("certs", "init", str(made)).code == 0
    return made


def test_keys_are_private_and_the_files_fit(run, folder):
    """A key that others can read is no secret; a certificate that does not fit is no use."""
    ran = run("certs", "node", "n1", str(folder))
    assert (ran.code, ran.out.split()) == (0, [str(folder / "n1.pem"), str(folder / "n1.key")])
    assert run("certs", "client", str(folder)).code == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert {name for name, mode in modes.items() if mode == 0o600} == {
        "ca.key",
        "n1.key",
        "client.key",
    }
    ca = folder / "ca.pem"
    node = certificates.load([folder / "n1.pem", folder / "n1.key", ca])
    client = certificates.load([folder / "client.pem", folder / "client.key", ca])
    assert node.names == {"n1"}
    assert client.names == {"client client"}, "no node can have a name with a space"


def test_nothing_is_written_over(run, folder):
    """A second CA in its place would lock every node out."""
    run("certs", "node", "n1", str(folder))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    for arguments in (["init"], ["node", "n1"], ["node", "ca"], ["client", "--name", "n1"]):
        ran = run("certs", *arguments, str(folder))
        assert (ran.code, ran.out) == (2, "")
        assert "is there already" in ran.err
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_without_the_package_a_line_says_how_to_get_it(run, tmp_path, monkeypatch):
    """Someone without the extra would see a traceback."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.delitem(sys.modules, "exkiq.cli.authority", raising=False)
    ran = run("certs", "init", str(tmp_path / "certs"))
    assert (ran.code, ran.out) == (1, "")
    assert "pip install cryptography" in ran.err
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_a_ca_that_is_none(run, folder, content):
    """Someone who copied half a file would see a traceback."""
    (folder / "ca.pem").write_bytes(content)
    ran = run("certs", "node", "n1", str(folder))
    assert ran.code == 2
    assert str(folder) in ran.err
    assert len(ran.err.splitlines()) == 1


# ---- the settings that name the files --------------------------------------------------------


@pytest.fixture
def flags(run, folder):
    run("certs", "node", "n1", str(folder))
    files = {"tls_cert": "n1.pem", "tls_key": "n1.key", "tls_ca": "ca.pem"}
    return {"name": "n1"} | {name: str(folder / file) for name, file in files.items()}


def fault_of(flags, environ=None) -> str:
    with pytest.raises(ConfigError) as caught:
        from_command_line(flags, environ or {})
    (fault,) = caught.value.faults
    return fault


def test_the_files_are_taken_from_each_place(flags, tmp_path):
    """A node would start without TLS although it was asked for."""
    names = [name for name in flags if name != "name"]
    environ = {f"EXKIQ_{name.upper()}": flags[name] for name in names}
    toml = tmp_path / "exkiq.toml"
    toml.write_text("".join(f'{name} = "{flags[name]}"\n' for name in names))
    name = {"name": "n1"}
    for settings in (
        from_command_line(flags, {}),
        from_command_line(name, environ),
        from_command_line(name, {}, toml),
    ):
        assert settings.tls is not None
        assert settings.tls.names == {"n1"}
    assert from_command_line(name, {}).tls is None


def test_jobs_are_handed_the_files(flags):
    """A job that enqueues another one could ask no node but its own."""
    relative = os.path.relpath(flags["tls_ca"])
    settings = from_command_line(flags | {"tls_ca": relative}, {})
    environ = environ_of_jobs(settings)
    for name in ("tls_cert", "tls_key", "tls_ca"):
        assert os.path.normpath(environ[f"EXKIQ_{name.upper()}"]) == flags[name]


@pytest.mark.parametrize("missing", ["tls_cert", "tls_key", "tls_ca"])
def test_all_three_or_none(flags, missing):
    """A node would start open because one of three variables was misspelt."""
    del flags[missing]
    assert fault_of(flags).endswith(f"missing: {missing}")


def test_files_that_do_not_do(run, folder, flags, tmp_path):
    """The node would start, and link with nobody."""
    for name in ("n2", "n3"):
        run("certs", "node", name, str(folder))
    other = tmp_path / "other"
    run("certs", "init", str(other))
    assert "is for n1, and this node's name is n9" in fault_of(flags | {"name": "n9"})
    assert "is not the key of" in fault_of(flags | {"tls_key": str(folder / "n2.key")})
    assert "unable to get local issuer" in fault_of(flags | {"tls_ca": str(other / "ca.pem")})
    assert "cannot read" in fault_of(flags | {"tls_cert": str(tmp_path / "nope")})
    assert "no certificate in PEM" in fault_of(flags | {"tls_ca": str(folder / "n2.key")})
    assert "a certificate and its key" in fault_of(flags | {"tls_cert": str(folder / "n2.key")})
    (folder / "n3.key").chmod(0o640)
    open_key = flags | {
        "name": "n3",
        "tls_cert": str(folder / "n3.pem"),
        "tls_key": str(folder / "n3.key"),
    }
    assert "chmod 600" in fault_of(open_key)
