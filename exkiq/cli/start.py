"""`exkiq start`: its options are the table of settings."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from exkiq.config import SETTINGS, Setting, from_command_line
from exkiq.config.kinds import Several, Switch
from exkiq.config.table import Place
from exkiq.errors import ConfigError

HELP = (
    "Start a node that runs the jobs of APP.\n\n"
    "APP is a module that defines workers, or several, importable from the current folder. "
    "Settings are taken from the options, else from EXKIQ_* variables, else from the file, "
    "else from the defaults."
)
CONFIG_HELP = "TOML file with settings. (EXKIQ_CONFIG)"


def _takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Gives `command` one option for each setting; typer reads a function's signature."""
    options = [_parameter(setting) for setting in SETTINGS if Place.FLAG in setting.places]
    config = inspect.Parameter(
        "config",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            str | None, typer.Option("--config", metavar="FILE", help=CONFIG_HELP)
        ],
    )
    signature = inspect.Signature([*options, config])
    command.__signature__ = signature  # type: ignore[attr-defined]
    return command


def _parameter(setting: Setting) -> inspect.Parameter:
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_type_of(setting), _option(setting)],
    )


def _type_of(setting: Setting) -> Any:
    # values stay text here: the configuration judges all of them together
    if isinstance(setting.kind, Switch):
        return bool | None
    return list[str] | None if isinstance(setting.kind, Several) else str | None


def _option(setting: Setting) -> Any:
    if setting.flags == setting.metavar:
        return typer.Argument(metavar=setting.metavar, hidden=True)
    return typer.Option(
        setting.flags, metavar=setting.metavar or None, help=help_of(setting), show_default=False
    )


def help_of(setting: Setting) -> str:
    """The sentence of a setting, its default and its variable."""
    again = " May be given several times." if isinstance(setting.kind, Several) else ""
    return f"{setting.sentence}{again} (default: {shown_default(setting)}; {setting.variable})"


def shown_default(setting: Setting) -> str:
    """A default as a person would write it."""
    if setting.default_text:
        return setting.default_text
    if isinstance(setting.default, bool):
        return "yes" if setting.default else "no"
    if isinstance(setting.default, tuple):
        return ", ".join(setting.default) or "none"
    if isinstance(setting.default, float):
        return f"{setting.default:g}"
    return str(setting.default)


@_takes_settings
def start(config: str | None = None, **flags: object) -> None:
    """Start a node and run it until SIGTERM or SIGINT."""
    settings = from_command_line(flags, config=config)
    if not settings.app and settings.concurrency:
        raise ConfigError(
            "app: no module named; say which one defines the workers, as in"
            " `exkiq start myapp.workers`, or --concurrency 0 for a node that runs nothing"
        )
    import_from_here()
    # imported late: help and usage errors must not wait for the engine
    from exkiq.node import run

    raise typer.Exit(run(settings))


def import_from_here() -> None:
    """A program that pip installed does not look for modules in the current folder."""
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
