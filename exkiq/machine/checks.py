"""Checks of decoded values: each gives the value back with its type, or raises `Rejected`.

Types are taken strictly: a bool is no int. Columns are checked without a Python loop, because
every job of a large operation passes here.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

from exkiq.machine import limits
from exkiq.machine.outcomes import Refused

T = TypeVar("T")
Items: TypeAlias = list[object]

_TEXT = {str}
_WHOLE = {int}
_BLOB = {bytes}
_BLOB_OR_NONE = {bytes, type(None)}


class Rejected(Exception):
    """The operation cannot be carried out; stays inside the machine."""

    def __init__(self, text: str, kind: str = "Refused") -> None:
        super().__init__(text)
        self.refused = Refused(kind, text)


def whole(value: object, lowest: int, highest: int, name: str) -> int:
    """An int between two bounds, both included."""
    if type(value) is not int:
        raise Rejected(f"{name} is not an int")
    if not lowest <= value <= highest:
        raise Rejected(f"{name} is not between {lowest} and {highest}")
    return value


def flag(value: object, name: str) -> bool:
    """A bool."""
    if type(value) is not bool:
        raise Rejected(f"{name} is not a bool")
    return value


def text(value: object, chars_max: int, name: str) -> str:
    """A str of 1 to `chars_max` characters."""
    if type(value) is not str:
        raise Rejected(f"{name} is not a str")
    if not 0 < len(value) <= chars_max:
        raise Rejected(f"{name} has {len(value)} characters, not 1 to {chars_max}")
    return value


def any_text(value: object, name: str) -> str:
    """A str of any length."""
    if type(value) is not str:
        raise Rejected(f"{name} is not a str")
    return value


def items(value: object, name: str) -> list[object]:
    """A list of anything."""
    if type(value) is not list:
        raise Rejected(f"{name} is not a list")
    return value


def job_id(value: object) -> str:
    """The id of a job."""
    return text(value, limits.ID_CHARS_MAX, "a job's id")


def queue_name(value: object) -> str:
    """A name that a queue may have."""
    name = text(value, limits.QUEUE_NAME_BYTES_MAX, "a queue's name")
    if len(name.encode()) > limits.QUEUE_NAME_BYTES_MAX:
        raise Rejected(f"a queue's name is over {limits.QUEUE_NAME_BYTES_MAX} bytes")
    if not name.isprintable():
        raise Rejected("a queue's name has characters that cannot be printed")
    if name in limits.RESERVED_QUEUE_NAMES:
        raise Rejected(f"{name!r} is the name of a state or count and cannot be a queue's")
    return name


def name(value: object, what: str) -> str:
    """The name of a node, a run, a cluster; an address."""
    return text(value, limits.NAME_CHARS_MAX, what)


def number(value: object) -> int:
    """The number of a session, or a fence."""
    return whole(value, 0, limits.INT_MAX, "a session or fence")


def payload(value: object) -> bytes:
    """One call's encoded arguments."""
    if type(value) is not bytes:
        raise Rejected("a payload is not bytes")
    check_payload(len(value))
    return value


def check_payload(length: int) -> None:
    """Refuse arguments of so many bytes when they are too many."""
    if length > limits.ARGUMENTS_BYTES_MAX:
        text = f"arguments of {length} bytes are over {limits.ARGUMENTS_BYTES_MAX}"
        raise Rejected(text, "JobTooLarge")


def fields(items: Items, count: int) -> Items:
    """What an operation has behind its code and pid, if it is so much."""
    if len(items) != count + 2:
        raise Rejected(f"{len(items) - 2} fields, not {count}")
    return items[2:]


def texts(value: object, name: str) -> list[str]:
    """A list of str."""
    if type(value) is not list or not set(map(type, value)) <= _TEXT:
        raise Rejected(f"{name} are not a list of str")
    return value


def job_ids(value: object) -> list[str]:
    """A list of ids of jobs; may be empty."""
    ids = texts(value, "ids")
    if ids and ("" in ids or max(map(len, ids)) > limits.ID_CHARS_MAX):
        raise Rejected(f"an id does not have 1 to {limits.ID_CHARS_MAX} characters")
    return ids


def wholes(value: object, length: int, name: str) -> list[int]:
    """A list of so many ints within 64 bits, which msgpack sees to."""
    if type(value) is not list or not set(map(type, value)) <= _WHOLE:
        raise Rejected(f"{name} are not a list of int")
    return sized(value, length, name)


def blobs(value: object, length: int, name: str) -> list[bytes]:
    """A list of so many bytes."""
    if type(value) is not list or not set(map(type, value)) <= _BLOB:
        raise Rejected(f"{name} are not a list of bytes")
    return sized(value, length, name)


def blobs_or_none(value: object, length: int, name: str) -> list[bytes | None] | None:
    """A list of so many bytes or None, or None for all of them."""
    if value is None:
        return None
    if type(value) is not list or not set(map(type, value)) <= _BLOB_OR_NONE:
        raise Rejected(f"{name} are not a list of bytes")
    return sized(value, length, name)


def sized(value: list[T], length: int, name: str) -> list[T]:
    """The list, if it has this length."""
    if len(value) != length:
        raise Rejected(f"{length} ids and {len(value)} {name}")
    return value
