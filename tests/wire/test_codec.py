"""Arguments and values: equal after the journey, or refused by name."""

from __future__ import annotations

import math
from collections import namedtuple
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exkiq.errors import JobTooLarge, SerializationError
from exkiq.machine import limits
from exkiq.wire.codec import decode_call, decode_value, encode_call, encode_value

KEYS = st.text(max_size=5) | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=4) | st.none()
MOMENTS = st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=5, minutes=45))))
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | MOMENTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=50)
@given(st.lists(VALUES, max_size=4), st.dictionaries(st.text(max_size=8), VALUES, max_size=3))
def test_a_call_arrives_as_it_was_made(args, kwargs):
    """A job would see other arguments than were given."""
    assert (args, kwargs) == decode_call(encode_call(tuple(args), kwargs))


@settings(max_examples=50)
@given(VALUES)
def test_a_value_arrives_as_it_was_made(value):
    """A caller would get another result than was returned."""
    assert value == decode_value(encode_value(value))


@settings(max_examples=50)
@given(VALUES)
def test_cut_bytes_are_refused_by_name(value):
    """A damaged payload would raise something that is not an error of the house."""
    packed = encode_value(value)
    for cut in range(len(packed)):
        with pytest.raises(SerializationError):
            decode_value(packed[:cut])


@given(st.binary(max_size=60))
def test_random_bytes_are_a_call_or_refused(data):
    """A hostile client could crash the process that runs jobs."""
    try:
        args, kwargs = decode_call(data)
    except SerializationError:
        return
    assert isinstance(args, list)
    assert isinstance(kwargs, dict)


@pytest.mark.parametrize("value", [[1], [1, 2, 3], [{}, {}], [[], []], [[], {1: 2}], "ab", None])
def test_other_values_are_no_call(value):
    """Stored bytes of another kind would be unpacked into a strange call."""
    with pytest.raises(SerializationError):
        decode_call(encode_value(value))


def test_what_arrives_changed_by_design():
    """Users are told these two: tuples become lists, a moment keeps its instant."""
    point = namedtuple("point", "x y")
    noon = datetime(2030, 1, 2, 12, tzinfo=timezone(timedelta(hours=2)))

    args, _ = decode_call(encode_call(((1, (2,)), point(3, 4), noon), {}))

    assert [[1, [2]], [3, 4], noon] == args
    assert args[2].tzinfo == UTC


@pytest.mark.parametrize("value", [math.inf, -math.inf, datetime.min, datetime.max], ids=str)
def test_the_ends_of_the_number_lines(value):
    """The largest values would not survive."""
    value = value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
    assert value == decode_value(encode_value(value))


def test_nan_stays_nan():
    """It equals nothing, so the property test leaves it out."""
    assert math.isnan(decode_value(encode_value(math.nan)))


@pytest.mark.parametrize(
    "value",
    [
        {1, 2},
        pytest.param(object(), id="object"),
        1j,
        Decimal(1),
        Fraction(1, 2),
        UUID(int=1),
        date(2030, 1, 1),
        datetime(2030, 1, 1),
        timedelta(1),
        2**64,
        -(2**63) - 1,
        "\ud800",
        {(1, 2): 3},
        len,
        ValueError("x"),
    ],
    ids=repr,
)
def test_what_cannot_travel_is_refused_and_named(value):
    """A job that no node can read would be stored, or fail far from the mistake."""
    with pytest.raises(SerializationError, match=r"^argument 2:"):
        encode_call((1, value, 3), {})
    with pytest.raises(TypeError, match=r"^argument `when`:"):
        encode_call((1,), {"what": 2, "when": value})
    with pytest.raises(SerializationError, match=r"^the value"):
        encode_value(value)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((1, {1, 2}), {}, r"^argument 2 \(`when`\): a set cannot be carried \(None, bool, "),
        ((object(),), {}, r"^argument 1 \(`who`\): an object cannot be carried"),
        ((datetime(2030, 1, 1),), {}, r"^argument 1 \(`who`\): a datetime.datetime without a time"),
        (([1, {"at": [0, {2}]}],), {}, r"^argument 1 \(`who`\)\[1\]\['at'\]\[1\]: a set "),
        ((), {"n": 2**64}, r"^argument `n`: an int outside of 64 bits$"),
        ((), {"d": {(1, 2): 3}}, r"^argument `d`: a dict with a key that cannot be a key"),
        ((), {"d": {b"k": {2**70: 3}}}, r"^argument `d`\[b'k'\] key 11805.*: an int outside"),
        ((), {"s": ["ok", "\ud800"]}, r"^argument `s`\[1\]: a str that is no valid Unicode$"),
        ((1, 2, 1j), {}, r"^argument 3: a complex cannot"),
    ],
)
def test_the_error_leads_to_the_culprit(args, kwargs, text):
    """The caller would have to guess which of many values is wrong."""
    with pytest.raises(SerializationError, match=text):
        encode_call(args, kwargs, names=("who", "when"))


def test_a_list_inside_itself_is_refused():
    """The walk for the culprit would never end."""
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(SerializationError, match=r"argument 1.*a list nested too deep"):
        encode_call((loop,), {})


def test_arguments_of_one_mebibyte_pass_and_one_byte_more_does_not():
    """The limit would be another than the documented one."""
    overhead = len(encode_call((b"x" * 70_000,), {})) - 70_000
    largest = b"x" * (limits.ARGUMENTS_BYTES_MAX - overhead)

    assert len(encode_call((largest,), {})) == limits.ARGUMENTS_BYTES_MAX
    with pytest.raises(JobTooLarge, match=r"1048577 bytes, the limit is 1048576; .* argument 2 "):
        encode_call((1, largest), {})


def test_the_largest_of_several_arguments_is_named(monkeypatch):
    """The caller would not know what to shorten."""
    monkeypatch.setattr(limits, "ARGUMENTS_BYTES_MAX", 50)
    with pytest.raises(JobTooLarge, match=r"the largest is argument `body` with"):
        encode_call(("x" * 10,), {"body": "x" * 60, "to": "x" * 20}, names=("subject",))


def test_a_timestamp_outside_of_all_years_is_refused():
    """A hostile payload would raise an OverflowError in the process that runs jobs."""
    with pytest.raises(SerializationError):
        decode_value(b"\xc7\x0c\xff" + b"\x00" * 4 + b"\x7f" + b"\xff" * 7)


def test_an_extension_is_refused():
    """Only plain msgpack is ever decoded."""
    with pytest.raises(SerializationError, match="extension 5"):
        decode_value(b"\xd4\x05a")
