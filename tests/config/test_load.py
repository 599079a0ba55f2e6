"""Where a setting comes from, and what is refused before anything starts."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exkiq.config import SETTINGS, Settings, from_command_line, from_keywords
from exkiq.config.table import Place
from exkiq.errors import ConfigError

SECRET = "0123456789abcdef0123456789abcdef"

# For each setting: raw text as a flag or variable has it, TOML for the same, and the value.
SAMPLES = {
    "app": ("a.b,c", '["a.b", "c"]', ("a.b", "c")),
    "name": ("n1", '"n1"', "n1"),
    "cluster": ("blue", '"blue"', "blue"),
    "data_dir": ("/data/x", '"/data/x"', Path("/data/x")),
    "memory": ("yes", "true", True),
    "bind": ("127.0.0.1:7000", '"127.0.0.1:7000"', "127.0.0.1:7000"),
    "interfaces": ("127.0.0.2", '["127.0.0.2"]', ("127.0.0.2",)),
    "peers": ("h1:1,[::1]:2", '["h1:1", "[::1]:2"]', ("h1:1", "[::1]:2")),
    "mdns": ("off", "false", False),
    "bootstrap_expect": ("3", "3", 3),
    "queues": ("emails:3,default", "{ emails = 3, default = 1 }", {"emails": 3, "default": 1}),
    "processes": ("7", "7", 7),
    "concurrency": ("0", "0", 0),
    "insecure": ("1", "true", True),
    "drain_timeout": ("0.5", "0.5", 0.5),
    "node_timeout": ("3", "3", 3.0),
    "claim_timeout": ("2", "2", 2.0),
    "replace_after": ("60", "60", 60.0),
    "join_wait": ("0", "0", 0.0),
    "leave_on_stop": ("on", "true", True),
    "log_level": ("debug", '"debug"', "DEBUG"),
}


def faults_of(flags=None, environ=None, config=None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        from_command_line(flags or {}, environ or {}, config)
    return caught.value.faults


def in_file(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "exkiq.toml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", SAMPLES)
def test_a_setting_is_read_from_each_place(name, tmp_path):
    """A flag, a variable or a key of the file would be ignored, or read in its own way."""
    text, toml, value = SAMPLES[name]
    file = in_file(tmp_path, f"{name} = {toml}")
    assert getattr(from_command_line({name: text}, {}), name) == value
    assert getattr(from_command_line({}, {f"EXKIQ_{name.upper()}": text}), name) == value
    assert getattr(from_command_line({}, {}, file), name) == value
    assert getattr(from_keywords({name: tomllib.loads(f"x = {toml}")["x"]}, {}), name) == value


def test_the_samples_cover_every_setting():
    """A new setting would go untested."""
    elsewhere = {"secret", "secret_file", "tls_cert", "tls_key", "tls_ca"}  # see test_doors
    assert {setting.name for setting in SETTINGS} == {*SAMPLES, *elsewhere}


@pytest.mark.parametrize("name", sorted({*SAMPLES} - {"app", "data_dir", "memory"}))
def test_flags_before_environment_before_file(name, tmp_path):
    """An operator's flag would lose against a forgotten variable or file."""
    text, toml, value = SAMPLES[name]
    defaults = from_command_line({}, {})
    file = in_file(tmp_path, f"{name} = {toml}")
    environ = {f"EXKIQ_{name.upper()}": text}
    other = {
        "name": "z", "cluster": "z", "bind": "127.0.0.1:9", "interfaces": ["127.0.0.9"],
        "peers": ["z:9"], "mdns": True, "bootstrap_expect": "2", "queues": "z:9",
        "processes": "9", "concurrency": "9", "insecure": False, "drain_timeout": "9",
        "node_timeout": "9", "claim_timeout": "9", "replace_after": "9", "join_wait": "9",
        "leave_on_stop": False, "log_level": "ERROR",
    }[name]  # fmt: skip
    winner = getattr(from_command_line({name: other}, environ, file), name)
    assert winner == getattr(from_command_line({name: other}, {}), name) != value
    file.write_text(f"{name} = []")  # would be refused, were it read
    assert getattr(from_command_line({}, environ, file), name) == value != getattr(defaults, name)


def test_the_file_is_named_by_flag_or_variable(tmp_path):
    """A node would start with defaults although its file was named."""
    file = in_file(tmp_path, "concurrency = 3")
    other = tmp_path / "other.toml"
    other.write_text("concurrency = 4")
    assert from_command_line({}, {"EXKIQ_CONFIG": str(file)}).concurrency == 3
    assert from_command_line({}, {"EXKIQ_CONFIG": str(file)}, other).concurrency == 4


def test_an_empty_variable_counts_as_not_set():
    """`EXKIQ_NAME= exkiq start` would be refused, against what shells and containers do."""
    assert from_command_line({}, {"EXKIQ_CONCURRENCY": ""}).concurrency == 10


def test_defaults_depend_on_the_machine_where_they_must(tmp_path):
    """Two nodes would share a folder, or use cores they do not have."""
    settings = from_command_line({"cluster": "c", "name": "n"}, {"XDG_STATE_HOME": str(tmp_path)})
    assert settings.data_dir == settings.folder == tmp_path / "exkiq" / "c" / "n"
    assert 1 <= settings.processes <= (os.cpu_count() or 1)
    relative = from_command_line({"cluster": "c", "name": "n"}, {"XDG_STATE_HOME": "x"})
    assert relative.data_dir == Path.home() / ".local" / "state" / "exkiq" / "c" / "n"


def test_memory_writes_nothing_and_leaves_on_stop():
    """A node told to write nothing would make a folder, or stay a member that has no data."""
    settings = from_command_line({"memory": True}, {})
    assert (settings.data_dir, settings.folder, settings.leave_on_stop) == (None, None, True)


def test_memory_and_a_data_folder_exclude_each_other():
    """Data would be believed to be on disk that never gets there."""
    (fault,) = faults_of({"memory": True, "data_dir": "/data"})
    assert "--memory" in fault
    assert "--data-dir" in fault
    assert from_command_line({"memory": True}, {"EXKIQ_DATA_DIR": "/data"}).data_dir is None
    kept = from_command_line({"data_dir": "/data"}, {"EXKIQ_MEMORY": "1"})
    assert (kept.memory, kept.data_dir) == (False, Path("/data"))


def test_all_faults_are_listed_at_once(tmp_path):
    """Someone would mend one fault after another, a start for each."""
    file = in_file(tmp_path, "join_wait = true\nconcurency = 3")
    faults = faults_of({"concurrency": "ten"}, {"EXKIQ_PROCESSES": "0"}, file)
    assert len(faults) == 4
    for words in (
        ("concurrency: 'ten' (from --concurrency)", "a whole number from 0 to"),
        ("processes: '0' (from EXKIQ_PROCESSES)", "a whole number from 1 to"),
        ("join_wait: True (from join_wait in", str(file), "a number of seconds"),
        ("'concurency'", str(file), "did you mean concurrency?"),
    ):
        assert any(all(word in fault for word in words) for fault in faults), words


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": "-x"}, "name"),
        ({"cluster": "../up"}, "cluster"),
        ({"bind": "127.0.0.1:65536"}, "bind"),
        ({"bind": "127.0.0.1:x"}, "bind"),
        ({"bind": ":7000"}, "bind"),
        ({"bind": "::1:x"}, "bind"),
        ({"bind": "[::1"}, "bind"),
        ({"interfaces": ["lo"]}, "interfaces"),
        ({"peers": ["host"]}, "peers"),
        ({"peers": ["host:0"]}, "peers"),
        ({"app": ["workers.py"]}, "app"),
        ({"app": ["a-b"]}, "app"),
        ({"app": ["my/app"]}, "app"),
        ({"bootstrap_expect": "0"}, "bootstrap_expect"),
        ({"bootstrap_expect": "6"}, "bootstrap_expect"),
        ({"concurrency": "-1"}, "concurrency"),
        ({"concurrency": "1.5"}, "concurrency"),
        ({"concurrency": "1_0"}, "concurrency"),
        ({"concurrency": True}, "concurrency"),
        ({"processes": "٣x"}, "processes"),
        ({"drain_timeout": "nan"}, "drain_timeout"),
        ({"drain_timeout": "inf"}, "drain_timeout"),
        ({"drain_timeout": 10**400}, "drain_timeout"),
        ({"node_timeout": "0"}, "node_timeout"),
        ({"queues": "emails:0"}, "queues"),
        ({"queues": "emails:x"}, "queues"),
        ({"queues": {"": 1}}, "queues"),
        ({"queues": {" a": 1}}, "queues"),
        ({"queues": {"a\n": 1}}, "queues"),
        ({"queues": {"é" * 128: 1}}, "queues"),
        ({"log_level": "loud"}, "log_level"),
        ({"data_dir": ""}, "data_dir"),
        ({"data_dir": "~nobody-of-this-name/x"}, "data_dir"),
    ],
)
def test_a_bad_value_is_refused_by_name(flags, named):
    """A node would start with something else than was asked, or fail later with a riddle."""
    (fault,) = faults_of(flags)
    assert fault.startswith(f"{named}: ")
    assert "(from " in fault
    assert " is not " in fault


@pytest.mark.parametrize(
    "state", ["scheduled", "queued", "running", "retry", "succeeded", "failed", "cancelled"]
)
def test_a_state_is_no_queue_name(state):
    """The counts of a queue and of a state would fall together."""
    (fault,) = faults_of({"queues": f"{state}:1"})
    assert state in fault


def test_an_unknown_keyword_is_named():
    """`Node(concurency=3)` would run with ten."""
    with pytest.raises(ConfigError, match=r"'concurency'.*did you mean concurrency\?"):
        from_keywords({"concurency": 3}, {})


@pytest.mark.parametrize("text", ["x = ", b"\xff\xfe".decode("latin-1")])
def test_a_file_that_is_not_toml_is_named(text, tmp_path):
    """A traceback of the parser would stand for a missing quote."""
    file = tmp_path / "exkiq.toml"
    file.write_bytes(text.encode("latin-1"))
    (fault,) = faults_of(config=file)
    assert str(file) in fault
    assert "is not TOML" in fault


def test_a_missing_file_is_named():
    """Settings that were asked for would be left out silently."""
    (fault,) = faults_of(config="/nowhere/exkiq.toml")
    assert "/nowhere/exkiq.toml" in fault


def test_a_long_value_is_cut_in_the_message():
    """A pasted file would fill the terminal."""
    (fault,) = faults_of({"name": "x" * 10_000})
    assert len(fault) < 300


def test_a_value_from_the_environment_or_file_may_not_be_what_only_python_has():
    """`secret` in a file that is not guarded as a secret would be read."""
    places = {setting.name: setting.places for setting in SETTINGS}
    assert places["secret"] == {Place.ENVIRONMENT, Place.KEYWORD}


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SAMPLES, "nonsense"]), junk, max_size=4))
def test_any_input_gives_settings_or_a_list_of_faults(keywords):
    """A traceback would stand where a line that names the setting belongs."""
    try:
        result: object = from_keywords(keywords, {})
    except ConfigError as error:
        result = error.faults
    assert isinstance(result, Settings) or (isinstance(result, tuple) and result)
