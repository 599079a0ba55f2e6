"""The command line against a pretend node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from exkiq.cli import main
from tests.cli.pretend import PretendClient


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs one command in this process."""

    def command(*arguments: str) -> Ran:
        code = main(arguments)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> type[PretendClient]:
    """The node that every command finds; fill its `answers`."""
    answers: dict[str | int, Any] = {}
    client = type("Client", (PretendClient,), {"answers": answers, "asked": []})
    monkeypatch.setattr("exkiq.client.Client", client)
    return client
