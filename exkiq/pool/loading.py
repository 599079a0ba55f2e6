"""Loads the APP inside a child, or says in one line why it cannot be."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType

from exkiq.errors import ConfigError
from exkiq.pool.error_text import OUR_FOLDER, clean, message_of, user_part
from exkiq.pool.work import App


def load(modules: Sequence[str], loader: str, cwd: str) -> App:
    """The APP that `loader` ("module:function") makes of `modules`.

    Errors: ConfigError that names the module and the cause.
    """
    load_app = _function(loader)
    try:
        app: App = load_app(tuple(modules))
        has_tasks = bool(app.queues or getattr(app, "has_tasks", False))
    except ConfigError:
        raise
    except BaseException as error:  # user code runs at import; all of it is told
        raise ConfigError(_why(error, modules, cwd)) from error
    if not has_tasks:
        raise ConfigError(f"{_names(modules)} defines no worker and no task")
    return app


def import_module(name: str, cwd: str) -> ModuleType:
    """A module of APP. Errors: ConfigError that names it, the cause and the user's line."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # user code runs at import
        raise ConfigError(_why(error, (name,), cwd)) from error


def _function(loader: str):  # type: ignore[no-untyped-def]
    module, _, name = loader.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"cannot load the loader {loader!r}: {error}") from error


def _why(error: BaseException, modules: Sequence[str], cwd: str) -> str:
    module = next((name for name in modules if name not in sys.modules), None)
    subject = repr(module) if module is not None else _names(modules)
    if isinstance(error, ModuleNotFoundError) and _is_itself(error.name, modules):
        return f"cannot import {error.name!r}: no such module in {cwd}"
    text = f"{type(error).__name__}: {message_of(error)}"
    return clean(f"cannot import {subject}: {text}{_last_line(error)}")


def _is_itself(missing: str | None, modules: Sequence[str]) -> bool:
    """Whether what is missing is a module of APP, or a package it should be in."""
    return any(name == missing or name.startswith(f"{missing}.") for name in modules)


def _last_line(error: BaseException) -> str:
    """Where in the user's code it was raised."""
    trace = user_part(error.__traceback__)
    lines = [line for line in traceback.extract_tb(trace) if not line.filename.startswith("<")]
    if isinstance(error, SyntaxError) or not lines:
        return ""  # a SyntaxError's message has the place in it
    theirs = [line for line in lines if not line.filename.startswith(OUR_FOLDER)]
    last = (theirs or lines)[-1]  # what exkiq refuses is refused at its caller
    return f" ({last.filename}, line {last.lineno}: {last.line})"


def _names(modules: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in modules)
