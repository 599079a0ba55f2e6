"""What is said of a local queue besides its name."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path

from exkiq.config.plugins import load_plugin
from exkiq.config.table import CONCURRENCY_MAX
from exkiq.dispatchers import LRU, Dispatcher

CONCURRENCY = 10


@dataclass(frozen=True, slots=True)
class Terms:
    """The options of a `Local`, as checked. `durable` is an absolute path."""

    durable: Path | None = None
    concurrency: int = CONCURRENCY
    dispatcher: object = None

    def __str__(self) -> str:
        """The options as they are written, each behind a comma."""
        options = "" if self.durable is None else f", durable={str(self.durable)!r}"
        if self.concurrency != CONCURRENCY:
            options += f", concurrency={self.concurrency}"
        if self.dispatcher is not None:
            options += f", dispatcher={self.dispatcher!r}"
        return options

    def make_dispatcher(self) -> Dispatcher:
        """Who chooses the slots."""
        return LRU() if self.dispatcher is None else _dispatcher(self.dispatcher)


PLAIN = Terms()


def check_terms(
    durable: str | PathLike[str] | None, concurrency: object, dispatcher: object
) -> Terms:
    """The options as they were given. Errors: ValueError naming the bad one."""
    is_count = isinstance(concurrency, int) and not isinstance(concurrency, bool)
    if not is_count or not 1 <= concurrency <= CONCURRENCY_MAX:  # type: ignore[operator]
        raise ValueError(
            f"concurrency must be an int from 1 to {CONCURRENCY_MAX}, not {concurrency!r}"
        )
    if dispatcher is not None:
        _dispatcher(dispatcher)
    path = None if durable is None else _file(durable)
    return Terms(path, concurrency, dispatcher)  # type: ignore[arg-type]


def _file(given: object) -> Path:
    """One path for each file, however it is written: two queues may share it."""
    if not isinstance(given, str | PathLike):
        raise ValueError(f"durable must be the path of a file, not {given!r}")  # noqa: TRY004
    text = fspath(given)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ValueError(f"durable must be the path of a file, not {given!r}")
    if text == ":memory:":
        raise ValueError("durable=':memory:' is no file: a Local without durable is in memory")
    return Path(text).resolve()


def _dispatcher(given: object) -> Dispatcher:
    return load_plugin("dispatcher", given, Dispatcher)  # type: ignore[type-abstract]
