"""The tree of commands, and what a person sees when one fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from exkiq import __version__
from exkiq.cli import acting, bench, certs, checking, membership, reading, show, start
from exkiq.errors import ConfigError, ExkiqError

FAILED = 1

tree = typer.Typer(
    name="exkiq",
    help="Background jobs for Python with no broker.",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
tree.command(name="start", help=start.HELP)(start.start)
for command in (
    reading.status,
    reading.stats,
    reading.queues,
    reading.jobs,
    acting.pause,
    acting.resume,
    acting.retry,
    acting.cancel,
):
    tree.command()(command)
tree.add_typer(membership.tree, name="cluster")
tree.add_typer(certs.tree, name="certs")
tree.command()(bench.bench)
tree.command()(checking.check)


@tree.callback(invoke_without_command=True)
def top(
    context: typer.Context,
    is_version_asked: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.")
    ] = False,
) -> None:
    if is_version_asked:
        show.line(f"exkiq {__version__}")
    else:
        show.help_without_command(context)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Shapes: `arguments` without the program's name; None takes those of the process.
    Errors: none but programming errors; all others become lines on stderr and an exit code.
    """
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        # whoever read our output has seen enough; Python's own flush at exit must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "exkiq"
        show.fault(f"{error.format_message()} (see {path} --help)")
        return error.exit_code
    except ConfigError as error:
        for fault in error.faults:
            show.fault(fault)
        return show.WRONG_USAGE
    except (ExkiqError, OSError) as error:
        show.fault(_sentence(error))
        return FAILED


def _run(arguments: Sequence[str]) -> int:
    code = typer.main.get_command(tree).main(
        args=list(arguments), prog_name="exkiq", standalone_mode=False
    )
    sys.stdout.flush()
    return code if isinstance(code, int) else 0


def _sentence(error: Exception) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "no answer in time"
    return str(error) or type(error).__name__
