"""Commands that make no sense, given to a living cluster: one line, a code, nothing changed."""

from __future__ import annotations

import pytest

from exkiq.cli import main
from tests.cluster.harness import Cluster

LONG = "x" * 300
COMMANDS: list[tuple[list[str], int, str]] = [
    (["jobs", "nobody"], 1, "nobody"),
    (["jobs", LONG], 1, ""),
    (["jobs", "--state", "lost"], 2, "lost"),
    (["jobs", "--limit", "-1"], 2, "--limit"),
    (["jobs", "--limit", "99999999999999999999"], 2, "--limit"),
    (["jobs", "--limit", "many"], 2, "--limit"),
    (["cancel", "nobody"], 1, "nobody"),
    (["cancel", LONG], 1, ""),
    (["cancel", ""], 1, ""),
    (["retry", "nobody"], 1, "failed set"),
    (["retry", "--queue", LONG], 1, "queue"),
    (["retry", "--queue", "running"], 1, "queue"),
    (["retry"], 2, "--all"),
    (["pause", ""], 1, "queue"),
    (["pause", LONG], 1, "queue"),
    (["pause", "failed"], 1, "queue"),
    (["resume", "q\x00\x1b[2J" + LONG], 1, "queue"),
    (["cluster", "remove", "nobody"], 1, "nobody"),
    (["cluster", "remove", LONG], 1, ""),
    (["cluster", "transfer", "nobody"], 1, "nobody"),
    (["cluster", "transfer", ""], 1, ""),
    (["status", "--timeout", "-1"], 2, "--timeout"),
    (["status", "--cluster", "elsewhere"], 1, "elsewhere"),
    (["status", "surplus"], 2, "surplus"),
]


@pytest.mark.parametrize(
    ("command", "code", "named"), COMMANDS, ids=lambda part: repr(part)[:40].replace("\\", "")
)
def test_a_command_that_makes_no_sense(
    live: Cluster, capsys: pytest.CaptureFixture[str], command: list[str], code: int, named: str
) -> None:
    """An operator's slip of the hand would change the cluster, or show a traceback."""
    url = "exkiq://" + ",".join(f"127.0.0.1:{port}" for port in live.ports.values())
    assert main([*command, "--url", url]) == code
    told = capsys.readouterr()
    assert named in told.err
    assert "Traceback" not in told.err
    assert "\x1b" not in told.err
    assert len(told.err.splitlines()) == 1, told.err
