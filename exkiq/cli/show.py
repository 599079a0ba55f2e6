"""How answers look: tables for people, JSON for machines, faults as one line each."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_COLUMNS = 200  # a pipe has no width; wide enough that ids and addresses stay whole
CELL_CHARS_MAX = 500
WIDE_COLUMNS = 140
WRONG_USAGE = 2


def console() -> Console:
    """A console that takes no markup from data."""
    is_terminal = sys.stdout.isatty()
    return Console(
        markup=False,
        emoji=False,
        highlight=False,
        width=None if is_terminal else PIPE_COLUMNS,
    )


def is_narrow() -> bool:
    """Whether a table of jobs has no room for all that is worth showing."""
    return console().width < WIDE_COLUMNS


def line(text: str) -> None:
    """One line of plain text."""
    sys.stdout.write(plain(text) + "\n")


def fault(text: str) -> None:
    """What went wrong, in one line on stderr."""
    sys.stderr.write("exkiq: " + " ".join(plain(text).split()) + "\n")


def help_without_command(context: typer.Context) -> None:
    """What a group of commands does when it is called without one of them."""
    if context.invoked_subcommand is None:
        line(context.get_help())
        raise typer.Exit(WRONG_USAGE)


def as_json(value: object) -> None:
    """A value for machines: indented, keys in the order given, text as UTF-8."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=_json_of)
    sys.stdout.write("\n")


def _json_of(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        return value.isoformat()
    return repr(value)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    whole: Collection[str] = (),
) -> None:
    """A table; columns whose name begins with `#` hold numbers and stand to the right.

    Shapes: numbers and the columns named in `whole` are not broken into lines.
    """
    drawn = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        is_number = name.startswith("#")
        drawn.add_column(
            name.lstrip("#"),
            justify="right" if is_number else "left",
            overflow="fold",
            no_wrap=is_number or name in whole,
        )
    for row in rows:
        drawn.add_row(*(_cell(value) for value in row))
    console().print(drawn)


def facts(pairs: Mapping[str, object]) -> None:
    """Names with their values, one a line."""
    drawn = Table.grid(padding=(0, 2))
    for name, value in pairs.items():
        drawn.add_row(Text(name, style="bold"), _cell(value))
    console().print(drawn)


def _cell(value: object) -> Text:
    if value is None:
        return Text("-", style="dim")
    if isinstance(value, bool):
        return Text("yes" if value else "no")
    if isinstance(value, int):
        return Text(f"{value:,}")
    if isinstance(value, float):
        return Text(f"{value:,.2f}")
    text = plain(str(value))
    return Text(text if len(text) <= CELL_CHARS_MAX else text[:CELL_CHARS_MAX] + "...")


def plain(text: str) -> str:
    """Text of a job or a peer without anything that moves a terminal's cursor."""
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for letter in text
    )


def moment(at: datetime | None) -> str | None:
    """A time as the clock on the wall shows it, UTC, to the second."""
    return None if at is None else at.strftime("%Y-%m-%d %H:%M:%S")
