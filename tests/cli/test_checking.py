"""`exkiq check --config`: settings read as a start would read them, and every fault at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from exkiq.declared import declared

GOOD = """
app = ["tests.api.api_app"]
processes = 1
[queues.sums]
weight = 3
failure_mode = { use = "exkiq.failure_modes:Retry", args = { times = 2 } }
success_mode = "exkiq.success_modes:Log"
[queues.default]
dispatcher = "exkiq.dispatchers:LRUNode"
"""


@pytest.fixture(autouse=True)
def _nothing_declared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("EXKIQ_CONFIG", raising=False)
    before = declared.queues, declared.pools
    declared.forget()
    yield
    declared.queues, declared.pools = before  # an APP that is imported once stays declared


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "exkiq.toml"


def test_a_file_without_faults_shows_what_a_start_would_go_by(
    run: Callable[..., Any], file: Path
) -> None:
    """Someone would have to start a node to see whether it starts."""
    file.write_text(GOOD)
    ran = run("check", "--config", str(file), "--json")
    assert ran.code == 0
    told = json.loads(ran.out)
    assert told["faults"] == []
    assert told["facts"]["queues"] == "sums:3, default:1"


def test_parts_that_cannot_be_made_are_lines_of_their_own(
    run: Callable[..., Any], file: Path
) -> None:
    """Someone would mend one, and meet the next; or learn of it from the first failed job."""
    file.write_text(
        GOOD.replace("times = 2", "times = 0")
        .replace("success_modes:Log", "success_modes:Gone")
        .replace("dispatchers:LRUNode", "dispatchers:Offer")
    )
    ran = run("check", "--config", str(file))
    assert ran.code == 1
    lines = ran.err.splitlines()
    keys = ["sums.failure_mode", "sums.success_mode", "default.dispatcher"]
    assert [line.split(": ")[1] for line in lines] == [f"queues.{key}" for key in keys]


def test_faults_of_form_name_key_and_file(run: Callable[..., Any], file: Path) -> None:
    """The mistake would be looked for in the wrong place."""
    file.write_text(GOOD.replace("weight = 3", "weight = 0") + "concurrency = 'x'\n")
    ran = run("check", "--config", str(file))
    assert ran.code == 1
    assert len(ran.err.splitlines()) == 2
    assert all(str(file) in line for line in ran.err.splitlines())


def test_an_app_that_cannot_be_imported_is_named(run: Callable[..., Any], file: Path) -> None:
    """The check would pass, and the start fail."""
    file.write_text('app = ["nowhere.workers"]\n')
    ran = run("check", "--config", str(file))
    assert ran.code == 1
    assert "nowhere" in ran.err
