"""`[queues.NAME]`: what the settings say of one queue, in place of what the APP declares.

    [queues.emails]
    weight = 3
    paused = false
    dispatcher = "exkiq.dispatchers:LRUNode"
    failure_mode = { use = "exkiq.failure_modes:Retry", args = { times = 3, delay = 10 } }
    success_mode = "exkiq.success_modes:Log"

Read here in form only: the parts are imported where they are used, in the children.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from exkiq.config.kinds import WEIGHT, Kind, Switch
from exkiq.config.plugins import Row, check_row
from exkiq.errors import ConfigError

KEYS = ("weight", "paused", "dispatcher", "failure_mode", "success_mode")
PLUGIN_KEYS = KEYS[2:]
TABLES_CHARS_MAX = 65_536  # a child is told on its command line, half of what Linux takes there

Terms = dict[str, Any]


def take_tables(raw: object, source: str, faults: list[str]) -> tuple[object, dict[str, Terms]]:
    """The setting `queues` taken apart: what it says of weights, and of each queue beyond them.

    Shapes: the weights as they came, for the kind of the setting to read; the terms checked:
            plain values, and for a part the row that `load_plugin` takes.
    """
    if not isinstance(raw, Mapping):
        return raw, {}
    weights: dict[Any, Any] = {}
    tables: dict[str, Terms] = {}
    for name, value in raw.items():
        if isinstance(value, Mapping) and isinstance(name, str):
            tables[name] = _terms(f"queues.{name}", value, source, faults)
            weights[name] = tables[name].get("weight", 1)
        else:
            weights[name] = value
    if len(json.dumps(tables)) > TABLES_CHARS_MAX:
        faults.append(f"queues: the tables (from {source}) are over {TABLES_CHARS_MAX} characters")
    return weights, tables


def _terms(where: str, table: Mapping[Any, Any], source: str, faults: list[str]) -> Terms:
    terms: Terms = {}
    for key, value in table.items():
        try:
            terms[key] = _read(key, value)
        except ConfigError as error:
            faults.append(f"{where}.{error} (from {source})")
    return terms


def _read(key: str, value: object) -> object:
    if key not in KEYS:
        raise ConfigError(f"{key!r:.60} is not a key; there are {', '.join(KEYS)}")
    if key in PLUGIN_KEYS:
        return _row(key, value)
    kind: Kind = WEIGHT if key == "weight" else Switch()
    try:
        return kind.read(value)
    except ValueError as error:
        raise ConfigError(f"{key}: {value!r:.60} is not {kind.allowed}") from error


def _row(key: str, value: object) -> Row:
    if isinstance(value, Mapping):
        if "use" not in value or not {*value} <= {"use", "args"}:
            raise ConfigError(f'{key}: a table has `use`, "package.module:Class", and `args`')
        value = [value["use"], value.get("args", [])]
    if not isinstance(value, str | list):
        raise ConfigError(f'{key}: {value!r:.60} is no "package.module:Class", and no table')
    row = check_row(key, value)
    try:
        json.dumps(row)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: args are text, numbers, true or false: {error}") from error
    return row
