"""`[queues.NAME]`: read in form, and every fault told with its key and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exkiq.config import Settings, from_command_line, from_keywords
from exkiq.errors import ConfigError

FILE = """
[queues]
default = 1
[queues.emails]
weight = 3
paused = true
dispatcher = "exkiq.dispatchers:LRUNode"
failure_mode = { use = "exkiq.failure_modes:Retry", args = { times = 3 } }
success_mode = "exkiq.success_modes:Log"
[queues.slow]
failure_mode = { use = "exkiq.failure_modes:Move", args = ["graveyard"] }
"""


def read(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "exkiq.toml"
    file.write_text(text)
    return from_command_line({}, {}, file)


def test_a_queue_may_have_a_table(tmp_path: Path) -> None:
    """What an operator says of one queue would be refused, or lost."""
    settings = read(tmp_path, FILE)
    assert settings.queues == {"default": 1, "emails": 3, "slow": 1}
    assert settings.queue_tables == {
        "emails": {
            "weight": 3,
            "paused": True,
            "dispatcher": ["exkiq.dispatchers:LRUNode", []],
            "failure_mode": ["exkiq.failure_modes:Retry", {"times": 3}],
            "success_mode": ["exkiq.success_modes:Log", []],
        },
        "slow": {"failure_mode": ["exkiq.failure_modes:Move", ["graveyard"]]},
    }
    keywords = from_keywords({"queues": {"emails": {"weight": 2}}}, {})
    assert (keywords.queues, keywords.queue_tables) == ({"emails": 2}, {"emails": {"weight": 2}})


def test_an_earlier_place_wins_as_a_whole(tmp_path: Path) -> None:
    """A flag would be mixed with what a forgotten file says."""
    file = tmp_path / "exkiq.toml"
    file.write_text(FILE)
    settings = from_command_line({"queues": "emails:9"}, {}, file)
    assert (settings.queues, settings.queue_tables) == ({"emails": 9}, {})


def test_every_fault_is_told_with_its_key_and_file(tmp_path: Path) -> None:
    """Someone would mend one, and meet the next; or look for it in the wrong file."""
    with pytest.raises(ConfigError) as caught:
        read(
            tmp_path,
            """
            concurrency = -1
            [queues.emails]
            weight = 0
            paused = "perhaps"
            colour = "red"
            failure_mode = "Retry"
            dispatcher = 3
            [queues.slow]
            success_mode = { class = "a:B" }
            failure_mode = { use = "a:B", args = [2020-01-01] }
            """,
        )
    faults = caught.value.faults
    assert len(faults) == 8
    for key, told in (
        ("concurrency", "whole number"),
        ("queues.emails.weight", "from 1 to 1000"),
        ("queues.emails.paused", "true or false"),
        ("queues.emails.'colour'", "there are weight, paused"),
        ("queues.emails.failure_mode", '"package.module:Class"'),
        ("queues.emails.dispatcher", '3 is no "package.module:Class", and no table'),
        ("queues.slow.success_mode", "`use`"),
        ("queues.slow.failure_mode", "args are text"),
    ):
        (fault,) = [fault for fault in faults if fault.startswith(key)]
        assert told in fault
        assert str(tmp_path) in fault


def test_tables_are_bounded() -> None:
    """The command line of a child would be refused by the system."""
    tables = {f"q{n}": {"failure_mode": ["a:B", ["x" * 1000]]} for n in range(80)}
    with pytest.raises(ConfigError, match="over 65536 characters"):
        from_keywords({"queues": tables}, {})


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
keys = st.sampled_from(["weight", "paused", "dispatcher", "failure_mode", "use", "args"])


@given(st.dictionaries(st.text(max_size=3), st.dictionaries(keys, junk, max_size=4), max_size=3))
def test_any_table_gives_settings_or_a_list_of_faults(tables: dict[str, object]) -> None:
    """A traceback would stand where a line that names the key belongs."""
    try:
        result: object = from_keywords({"queues": tables}, {})
    except ConfigError as error:
        result = error.faults
    assert isinstance(result, Settings) or (isinstance(result, tuple) and result)
