"""Parts that users may replace: given in one of four ways, made and checked in one place.

    an instance                  taken as it is
    a class                      called without arguments
    (class, arguments)           arguments are a tuple of positional ones, or a dict of keywords
    "package.module:Class"       imported; it may stand wherever a class may

A part that has to be made in another process travels as a row, [path, arguments], which
`load_plugin` takes as well.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from exkiq.errors import ConfigError

T = TypeVar("T")

PATH_CHARS_MAX = 512  # as the name of a task
SHOWN_CHARS_MAX = 200

# [path, arguments]: a list of positional ones, or a dict of keywords.
Row = list[Any]

_NAME = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
_PATH = re.compile(rf"{_NAME}:{_NAME}")


def load_plugin(what: str, given: object, base: type[T]) -> T:
    """The part that was given for the option `what`, an instance of `base`.

    Shapes: as above; `base` is an abstract class, or a protocol whose methods it must have.
    Errors: ConfigError (a ValueError) that names the option; its cause is what user code raised.
    """
    maker, arguments = _taken_apart(what, given)
    made = given if maker is None else _made(what, maker, arguments)
    lacking = _lacking(made, base)
    if lacking:
        raise ConfigError(f"{what}: {shown(made)} is no {base.__name__}: {lacking}")
    return made  # type: ignore[return-value]


def load_class(what: str, given: object, base: type[T]) -> type[T]:
    """The class that was given, itself or by its path, one below `base`. Errors: ConfigError."""
    found = _imported(what, given) if isinstance(given, str) else given
    if not isinstance(found, type) or not issubclass(found, base) or found is base:
        raise ConfigError(f"{what}: {shown(given)} is no class below {base.__name__}")
    return found


def row_of(what: str, given: object) -> Row:
    """How the part that was given is made anew in another process: [path, arguments].

    Errors: ConfigError for an instance that does not tell its arguments, or a class that no
            other process can import.
    """
    maker, arguments = _taken_apart(what, given)
    if maker is None:
        maker, arguments = type(given), _arguments_of(what, given)
    path = f"{maker.__module__}:{maker.__qualname__}"
    if not _leads_back(path, maker):
        raise ConfigError(f"{what}: {path} cannot be imported by another process")
    return [path, dict(arguments) if isinstance(arguments, Mapping) else list(arguments)]


def check_row(what: str, row: object) -> Row:
    """A row as it came from elsewhere, checked in shape only. Errors: ConfigError."""
    if isinstance(row, str):
        row = [row, []]
    if not isinstance(row, list | tuple) or len(row) != 2:
        raise ConfigError(f"{what}: [path, arguments] was expected, not {shown(row)}")
    path, arguments = row
    if not isinstance(path, str) or len(path) > PATH_CHARS_MAX or not _PATH.fullmatch(path):
        raise ConfigError(f'{what}: {shown(path)} is no "package.module:Class"')
    if not isinstance(arguments, list | tuple | dict):
        raise ConfigError(f"{what}: arguments are a list or a table, not {shown(arguments)}")
    return [path, dict(arguments) if isinstance(arguments, dict) else list(arguments)]


def shown(value: object) -> str:
    """A value as errors show it: one line, cut, with no address; also when its `repr` raises."""
    if type(value).__repr__ is object.__repr__:
        return f"{type(value).__qualname__}()"[:SHOWN_CHARS_MAX]
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 - user code, and only for a message
        text = f"<{type(value).__qualname__}, whose repr raised {type(error).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 3] + "..."


def _taken_apart(what: str, given: object) -> tuple[type | None, Any]:
    """The class to call and its arguments; no class for an instance."""
    if isinstance(given, str):
        return _imported(what, given), ()
    if isinstance(given, type):
        return given, ()
    if not isinstance(given, list | tuple):
        return None, ()
    if len(given) != 2 or not isinstance(given[0], str | type):
        raise ConfigError(f"{what}: (class, arguments) was expected, not {shown(given)}")
    maker, _ = _taken_apart(what, given[0])
    if not isinstance(given[1], list | tuple | Mapping):
        raise ConfigError(f"{what}: arguments are a tuple or a dict, not {shown(given[1])}")
    return maker, given[1]


def _imported(what: str, path: str) -> type:
    check_row(what, path)
    module, _, qualname = path.partition(":")
    try:
        found: object = importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except (Exception, SystemExit) as error:  # user code runs at import
        raise ConfigError(f"{what}: cannot import {path}: {_told(error)}") from error
    if not isinstance(found, type):
        raise ConfigError(f"{what}: {path} is no class")
    return found


def _made(what: str, maker: type, arguments: Any) -> object:
    try:
        if isinstance(arguments, Mapping):
            return maker(**arguments)
        return maker(*arguments)
    except (Exception, SystemExit) as error:  # user code
        raise ConfigError(f"{what}: cannot make {maker.__qualname__}: {_told(error)}") from error


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:SHOWN_CHARS_MAX]


def _lacking(made: object, base: type) -> str:
    """Why it is none, as the end of a sentence; empty if it is one."""
    if Protocol not in base.__bases__:
        return "" if isinstance(made, base) else f"it does not derive from {base.__qualname__}"
    wanted = [name for name in vars(base) if name[0] != "_" and callable(getattr(base, name))]
    missing = [name for name in wanted if not callable(getattr(made, name, None))]
    return f"it has no {', '.join(missing)}" if missing else ""


def _arguments_of(what: str, instance: object) -> Any:
    kind = type(instance)
    if dataclasses.is_dataclass(instance):
        fields = [field.name for field in dataclasses.fields(instance) if field.init]
        return {name: getattr(instance, name) for name in fields}
    if not inspect.signature(kind).parameters:
        return ()
    raise ConfigError(
        f"{what}: it is made in another process, and an instance of {kind.__qualname__} does not"
        f" tell its arguments; give ({kind.__qualname__}, arguments)"
    )


def _leads_back(path: str, maker: type) -> bool:
    module, _, qualname = path.partition(":")
    if module in ("__main__", "__mp_main__") or "<" in qualname:
        return False
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found is maker
