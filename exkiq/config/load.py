"""Precedence (flags or keywords, environment, file, defaults) and the rules between settings.

All faults are gathered and raised as one ConfigError. Each names the setting, the value, where
it came from, and what is allowed.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exkiq.config.addresses import is_loopback, is_unspecified, split_address
from exkiq.config.certificates import FILES, load_given
from exkiq.config.queue_tables import take_tables
from exkiq.config.secret import fault_of, read_secret_file
from exkiq.config.settings import (
    Settings,
    default_data_dir,
    default_name,
    default_processes,
)
from exkiq.config.table import BY_NAME, SETTINGS, Place, Setting
from exkiq.errors import ConfigError

CONFIG_VARIABLE = "EXKIQ_CONFIG"
SHOWN_CHARS_MAX = 60
FILE_BYTES_MAX = 1_048_576  # a file of settings is a page or two; anything larger is a mistake


@dataclass(frozen=True, slots=True)
class Found:
    """A value as it was given: `rank` 0 comes before all others."""

    raw: object
    source: str
    rank: int


Layer = Mapping[str, tuple[object, str]]


def from_command_line(
    flags: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    config: str | Path | None = None,
) -> Settings:
    """Settings of `exkiq start`: flags before `EXKIQ_*` before the TOML file before defaults.

    Shapes: `flags` by setting name; None and empty lists count as not given.
    Errors: ConfigError with every fault.
    """
    given = {
        name: (raw, _flag_of(name, raw))
        for name, raw in flags.items()
        if raw is not None and raw != []
    }
    return _load(given, os.environ if environ is None else environ, config)


def from_keywords(
    keywords: Mapping[str, object],
    environ: Mapping[str, str] | None = None,
    config: str | Path | None = None,
) -> Settings:
    """Settings of `exkiq.Node(name=..., ...)`; the same precedence, keywords first.

    Errors: ConfigError with every fault, unknown keywords included.
    """
    given = {
        name: (raw, f"the keyword {name}") for name, raw in keywords.items() if raw is not None
    }
    return _load(given, os.environ if environ is None else environ, config)


def _load(given: Layer, environ: Mapping[str, str], config: str | Path | None) -> Settings:
    faults = [_unknown(name, source) for name, (_, source) in given.items() if name not in BY_NAME]
    path = config or environ.get(CONFIG_VARIABLE)
    file = _file_layer(Path(path).expanduser(), faults) if path else {}
    found = _first_found([given, _environment_layer(environ), file])
    tables = _take_tables(found, faults)
    values = _read_all(found, faults) | {"queue_tables": tables}
    _overrule(found, values, faults, winner="memory", loser="data_dir")
    _overrule(found, values, faults, winner="secret", loser="secret_file")
    _read_secret(found, values, faults)
    _read_certificates(values, faults)
    _guard_doors(found, values, faults)
    if faults:
        raise ConfigError(*faults)
    return _settings(values, environ)


def _environment_layer(environ: Mapping[str, str]) -> Layer:
    names = [setting for setting in SETTINGS if Place.ENVIRONMENT in setting.places]
    return {
        setting.name: (environ[setting.variable], setting.variable)
        for setting in names
        if environ.get(setting.variable)  # empty counts as not set, as shells have it
    }


def _file_layer(path: Path, faults: list[str]) -> Layer:
    table = _read_file(path, faults)
    known = {setting.name for setting in SETTINGS if Place.FILE in setting.places}
    faults += [_unknown(key, str(path), known) for key in table if key not in known]
    return {key: (raw, f"{key} in {path}") for key, raw in table.items() if key in known}


def _read_file(path: Path, faults: list[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.loads(file.read(FILE_BYTES_MAX).decode())
    except OSError as error:
        faults.append(f"config: cannot read {path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        faults.append(f"config: {path} is not TOML: {error}")
    return {}


def _first_found(layers: Iterable[Layer]) -> dict[str, Found]:
    found: dict[str, Found] = {}
    for rank, layer in enumerate(layers):
        for name, (raw, source) in layer.items():
            found.setdefault(name, Found(raw, source, rank))
    return found


def _take_tables(found: dict[str, Found], faults: list[str]) -> dict[str, Any]:
    """What the queues' own tables say; in `found` their weights are left."""
    given = found.get("queues")
    if given is None:
        return {}
    weights, tables = take_tables(given.raw, given.source, faults)
    found["queues"] = replace(given, raw=weights)
    return tables


def _read_all(found: Mapping[str, Found], faults: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {setting.name: setting.default for setting in SETTINGS}
    for setting in SETTINGS:
        if setting.name not in found:
            continue
        try:
            values[setting.name] = setting.kind.read(found[setting.name].raw)
        except ValueError:
            faults.append(_refused(setting, found[setting.name]))
    return values


def _refused(setting: Setting, found: Found) -> str:
    shown = "the value" if setting.name == "secret" else _shown(found.raw)
    return f"{setting.name}: {shown} (from {found.source}) is not {setting.kind.allowed}"


def _shown(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 3] + "..."


def _unknown(name: str, source: str, known: Iterable[str] = tuple(BY_NAME)) -> str:
    nearest = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {nearest[0]}?" if nearest else ""
    return f"{_shown(name)} (from {source}) is not a setting{hint}"


def _overrule(
    found: Mapping[str, Found],
    values: dict[str, Any],
    faults: list[str],
    *,
    winner: str,
    loser: str,
) -> None:
    """Two settings that exclude each other: the one from the earlier source stands."""
    if winner not in found or loser not in found or not values[winner]:
        return
    first, second = found[winner], found[loser]
    if first.rank == second.rank:
        faults.append(f"{winner} (from {first.source}) excludes {loser} (from {second.source})")
    beaten = loser if first.rank <= second.rank else winner
    values[beaten] = BY_NAME[beaten].default


def _read_secret(found: Mapping[str, Found], values: dict[str, Any], faults: list[str]) -> None:
    if values["secret_file"] is not None:
        try:
            values["secret"] = read_secret_file(values["secret_file"])
        except ValueError as error:
            faults.append(f"secret_file: {error} (from {found['secret_file'].source})")
    elif values["secret"] is not None and (fault := fault_of(values["secret"])):
        faults.append(f"secret: the value from {found['secret'].source} {fault}")


def _read_certificates(values: dict[str, Any], faults: list[str]) -> None:
    values["tls"] = None
    try:
        tls = values["tls"] = load_given({name: values.pop(name) for name in FILES})
    except ValueError as error:
        faults.append(f"tls: {error}")
        return
    name = values["name"] or default_name()
    if tls is not None and name not in tls.names:
        shown = ", ".join(sorted(tls.names)) or "nobody"
        faults.append(f"tls_cert: {tls.files[0]} is for {shown}, and this node's name is {name}")


def _guard_doors(found: Mapping[str, Found], values: dict[str, Any], faults: list[str]) -> None:
    """No door to other machines without a secret, unless it was asked for by name."""
    host, _ = split_address(values["bind"])
    if is_unspecified(host):
        faults.append(
            f"bind: {host} (from {found['bind'].source}) is no address that another node could"
            " dial; give the address of one interface"
        )
    if values["secret"] is not None or values["secret_file"] is not None or values["insecure"]:
        return
    doors = {"bind": [host], "interfaces": values["interfaces"]}
    for name, hosts in doors.items():
        faults += [
            f"{name}: {host} (from {found[name].source}) can be reached by other machines;"
            " give a secret (secret_file or EXKIQ_SECRET), or say insecure to run without one"
            for host in hosts
            if not is_loopback(host)
        ]


def _settings(values: dict[str, Any], environ: Mapping[str, str]) -> Settings:
    del values["secret_file"]
    values["name"] = values["name"] or default_name()
    values["processes"] = values["processes"] or default_processes()
    values["leave_on_stop"] = values["leave_on_stop"] or values["memory"]
    if values["data_dir"] is None and not values["memory"]:
        values["data_dir"] = default_data_dir(values["cluster"], values["name"], environ)
    return Settings(**values)


def _flag_of(name: str, raw: object) -> str:
    if name not in BY_NAME:
        return name
    flag, _, negated = BY_NAME[name].flags.partition("/")
    return negated if raw is False else flag
