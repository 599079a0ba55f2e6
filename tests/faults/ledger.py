"""The ledgers: what each node's jobs wrote down of their runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.faults.history import Run

PREFIX = "ledger-"


def path_of(folder: Path, node: str) -> Path:
    return folder / f"{PREFIX}{node}"


def rows(folder: Path) -> Iterator[tuple[str, list[object]]]:
    for path in sorted(folder.glob(PREFIX + "*")):
        for line in path.read_text().splitlines():
            yield path.name.removeprefix(PREFIX), json.loads(line)


def runs(folder: Path) -> list[Run]:
    """Every start of a job with its end, in order of time."""
    found: list[Run] = []
    open_runs: dict[tuple[object, ...], Run] = {}
    for node, (what, job, fence, attempt, lost, at, _, pid) in rows(folder):
        key = node, job, fence, pid
        if what == "start":
            open_runs[key] = Run(job, fence, attempt, lost, node, at)  # type: ignore[arg-type]
            found.append(open_runs[key])
        else:
            open_runs[key].end = at  # type: ignore[assignment]
            open_runs[key].is_failed = what == "fail"
    return sorted(found, key=lambda run: run.start)


class Tail:
    """Reads what is new in the ledgers, for those who wait for a run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._offsets: dict[Path, int] = {}

    def starts(self) -> list[tuple[str, float]]:
        """(job, moment) of the starts since the last call."""
        found = []
        for path in self._folder.glob(PREFIX + "*"):
            with path.open("rb") as file:
                file.seek(self._offsets.get(path, 0))
                data = file.read()
            whole = data.rfind(b"\n") + 1
            self._offsets[path] = self._offsets.get(path, 0) + whole
            lines = (json.loads(line) for line in data[:whole].splitlines())
            found += [(row[1], row[5]) for row in lines if row[0] == "start"]
        return found
