"""Arguments and values of jobs as bytes, and errors that name what cannot be carried.

What msgpack carries: None, bool, 64-bit int, float, str, bytes, list, dict and aware datetimes.
Tuples arrive as lists. What could be packed but not read back (a dict with a tuple as key) is
refused too, at enqueue, where the caller can still do something about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgpack

from exkiq.errors import JobTooLarge, SerializationError
from exkiq.machine import limits

BLAME_DEPTH_MAX = 32  # how far into nested values an error looks for the culprit
BLAME_KEY_CHARS_MAX = 40

_CANNOT = (TypeError, ValueError, OverflowError, msgpack.exceptions.UnpackException)


def encode_call(
    args: Sequence[object], kwargs: Mapping[str, object], names: Sequence[str] = ()
) -> bytes:
    """The arguments of one job.

    Shapes: `names` are the parameters' names, only used in errors.
    Errors: SerializationError naming the argument and its type; JobTooLarge over 1 MiB.
    """
    try:
        packed = _pack([args, kwargs] if type(args) is tuple else [list(args), kwargs])
        is_small = len(packed) <= limits.ARGUMENTS_BYTES_MAX
        if is_small:
            _unpack(packed)
    except _CANNOT as error:
        raise SerializationError(_first_fault(args, kwargs, names)) from error
    if not is_small:
        raise JobTooLarge(_size_fault(args, kwargs, names, len(packed)))
    return packed


def decode_call(packed: bytes) -> tuple[list[object], dict[str, object]]:
    """Positional and keyword arguments. Errors: SerializationError when it is no call."""
    call = decode_value(packed)
    if not isinstance(call, list) or len(call) != 2:
        raise SerializationError("the stored arguments are not a call")
    args, kwargs = call
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise SerializationError("the stored arguments are not a call")
    if not all(isinstance(keyword, str) for keyword in kwargs):
        raise SerializationError("the stored arguments have a keyword that is no text")
    return args, kwargs


def encode_value(value: object) -> bytes:
    """A result, a checkpoint. Errors: SerializationError naming the part and its type."""
    try:
        packed = _pack(value)
        _unpack(packed)
    except _CANNOT as error:
        raise SerializationError(f"the value{_fault(value)}") from error
    return packed


def decode_value(packed: bytes) -> object:
    """What `encode_value` was given. Errors: SerializationError when it is not msgpack."""
    try:
        return _unpack(packed)
    except _CANNOT as error:
        raise SerializationError(f"stored bytes that are not msgpack: {error!r:.200}") from error


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, datetime=True)
    return packed


def _unpack(packed: bytes) -> object:
    value: object = msgpack.unpackb(
        packed, raw=False, strict_map_key=False, timestamp=3, ext_hook=_refuse_extension
    )
    return value


def _refuse_extension(code: int, _: bytes) -> object:
    raise ValueError(f"msgpack extension {code}")


# ---- who is to blame: only ever run once something failed ------------------------------------


def _labelled(
    args: Sequence[object], kwargs: Mapping[str, object], names: Sequence[str]
) -> Iterator[tuple[str, object]]:
    for position, value in enumerate(args):
        known = f" (`{names[position]}`)" if position < len(names) else ""
        yield f"argument {position + 1}{known}", value
    for keyword, value in kwargs.items():
        yield f"argument `{keyword}`", value


def _first_fault(args: Sequence[object], kwargs: Mapping[str, object], names: Sequence[str]) -> str:
    for label, value in _labelled(args, kwargs, names):
        if _cause(value) is not None:
            return label + _fault(value)
    return "the arguments cannot be carried"


def _size_fault(
    args: Sequence[object], kwargs: Mapping[str, object], names: Sequence[str], size: int
) -> str:
    sizes = {label: len(_pack(value)) for label, value in _labelled(args, kwargs, names)}
    label = max(sizes, key=sizes.__getitem__)
    return (
        f"the arguments take {size} bytes, the limit is {limits.ARGUMENTS_BYTES_MAX}; "
        f"the largest is {label} with {sizes[label]}: store it elsewhere and pass its key"
    )


def _cause(value: object) -> Exception | None:
    try:
        _unpack(_pack(value))
    except _CANNOT as error:
        return error
    return None


def _fault(value: object) -> str:
    """Path to the innermost culprit and what is wrong with it."""
    path = ""
    for _ in range(BLAME_DEPTH_MAX):
        inner = next(((p, v) for p, v in _parts(value) if _cause(v) is not None), None)
        if inner is None:
            break
        path += inner[0]
        value = inner[1]
    return f"{path}: {_reason(value)}"


def _parts(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield f" key {key!r:.{BLAME_KEY_CHARS_MAX}}", key
            yield f"[{key!r:.{BLAME_KEY_CHARS_MAX}}]", item
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            yield f"[{position}]", item


def _reason(value: object) -> str:
    kind = type(value)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    if isinstance(value, int):
        return "an int outside of 64 bits"
    if isinstance(value, str):
        return "a str that is no valid Unicode"
    if isinstance(value, dict):
        return (
            "a dict with a key that cannot be a key after the journey (a tuple arrives as a list)"
        )
    if isinstance(value, list | tuple):
        return f"a {name} nested too deep, or inside itself"
    if getattr(value, "tzinfo", value) is None and hasattr(value, "astimezone"):
        return f"a {name} without a time zone; give it one: datetime.now(timezone.utc)"
    article = "an" if name[0] in "aeiou" else "a"
    return (
        f"{article} {name} cannot be carried"
        " (None, bool, int, float, str, bytes, list, dict, datetime)"
    )
