"""The messages between nodes, and the shape each kind must have.

A message is a list whose first item is its kind. Only the shape is checked here, one level deep
where a deeper look would cost per job: RAFT's map is checked by the guard of raft, the bytes of
operations by the machine, both of which are total.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from exkiq.errors import RemoteWireError
from exkiq.machine import limits
from exkiq.wire.frames import Value
from exkiq.wire.hello import Hello

VERB_CHARS_MAX = 64

COMMON = ""
"""The group of the slots that serve every queue without a pool of its own."""

GROUPS_MAX = 1_000
"""Groups of slots of one node: the common ones and those of its pools."""

UNABLE_MAX = 1_000
"""Tasks that one node says it cannot run: more names than an app has."""

PROGRESS_BYTES_MAX = 4 * limits.KIB
"""The progress of one job: a percentage and a sentence, told to every node."""

PROGRESS_ROWS_MAX = 1_000
"""Jobs in one PROGRESS: 4 MiB at most, well below a frame."""

Check = Callable[[Value], bool]


class Kind(IntEnum):
    """First item of every message between nodes."""

    RAFT = 1
    PROPOSE = 2
    DEMAND = 3
    JOIN = 5
    WELCOME = 6
    PROMISE = 7
    PROMISED = 8
    FOUNDED = 9
    DENIED = 10
    NOT_LEADER = 11
    LEAVE = 12
    PING = 13
    CALL = 14
    ANSWER = 15
    HELLO = 16
    PROGRESS = 17


def _is_text(value: Value) -> bool:
    return type(value) is str


def _is_text_or_nil(value: Value) -> bool:
    return value is None or type(value) is str


def _is_count(value: Value) -> bool:
    return type(value) is int and value >= 0


def _is_bool(value: Value) -> bool:
    return type(value) is bool


def _is_list(value: Value) -> bool:
    return type(value) is list


def _is_map(value: Value) -> bool:
    return type(value) is dict


def _is_anything(_: Value) -> bool:
    return True


def _is_list_of_bytes(value: Value) -> bool:
    return isinstance(value, list) and set(map(type, value)) <= {bytes}


def _is_weights(value: Value) -> bool:
    return (
        isinstance(value, dict)
        and all(type(queue) is str for queue in value)
        and all(_is_count(weight) for weight in value.values())
    )


def _is_free(value: Value) -> bool:
    """Free slots by group: `COMMON`, else the name of a pool's queue."""
    return isinstance(value, dict) and len(value) <= GROUPS_MAX and _is_weights(value)


def _is_tasks(value: Value) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= UNABLE_MAX
        and all(isinstance(task, str) and len(task) <= limits.TASK_CHARS_MAX for task in value)
    )


def _is_progress(value: Value) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= PROGRESS_ROWS_MAX
        and all(_is_progress_of_job(row) for row in value)
    )


def _is_progress_of_job(value: Value) -> bool:
    match value:
        case [str(job_id), int(fence), bytes(said)]:
            is_short = len(job_id) <= limits.ID_CHARS_MAX and len(said) <= PROGRESS_BYTES_MAX
            return is_short and _is_count(fence)
        case _:
            return False


def _is_members(value: Value) -> bool:
    return isinstance(value, list) and all(
        isinstance(member, list) and len(member) == 3 and set(map(type, member)) == {str}
        for member in value
    )


def _is_hello(value: Value) -> bool:
    return Hello.from_fields(value).is_node


SHAPES: dict[int, tuple[Check, ...]] = {
    Kind.RAFT: (_is_map,),
    Kind.PROPOSE: (_is_list_of_bytes,),
    Kind.DEMAND: (_is_count, _is_count, _is_free, _is_weights, _is_tasks),
    Kind.JOIN: (_is_text, _is_text, _is_text),
    Kind.WELCOME: (_is_text, _is_members),
    Kind.PROMISE: (_is_text, _is_text, _is_members),
    Kind.PROMISED: (_is_text, _is_bool, _is_text),
    Kind.FOUNDED: (_is_text, _is_members),
    Kind.DENIED: (_is_text,),
    Kind.NOT_LEADER: (_is_text_or_nil, _is_text_or_nil),
    Kind.LEAVE: (_is_text,),
    Kind.PING: (),
    Kind.CALL: (_is_count, _is_text, _is_list),
    Kind.ANSWER: (_is_count, _is_bool, _is_anything),
    Kind.HELLO: (_is_hello,),
    Kind.PROGRESS: (_is_progress,),
}


def check(message: Value) -> None:
    """Accept a message of a node. Errors: RemoteWireError naming its kind and odd item."""
    if not isinstance(message, list) or not message or type(message[0]) is not int:
        raise RemoteWireError("a message without a kind")
    shape = SHAPES.get(message[0])
    if shape is None:
        raise RemoteWireError(f"a message of unknown kind {message[0]}")
    if len(message) != len(shape) + 1:
        raise RemoteWireError(f"{Kind(message[0]).name} with {len(message)} items")
    for position, is_right in enumerate(shape, 1):
        if not is_right(message[position]):
            raise RemoteWireError(f"{Kind(message[0]).name} with an odd item {position}")


def check_request(message: Value) -> None:
    """Accept [rid, verb, args...] of a client. Errors: RemoteWireError."""
    if not isinstance(message, list) or len(message) < 2:
        raise RemoteWireError("a request that is no list of id and verb")
    request_id, verb = message[0], message[1]
    if type(request_id) is not int or request_id < 1:
        raise RemoteWireError("a request whose id is no positive int")
    if not isinstance(verb, str) or len(verb) > VERB_CHARS_MAX:
        raise RemoteWireError("a request whose verb is no short text")


def check_answer(message: Value) -> None:
    """Accept what a node sends to a client: an answer, an error or a push. Errors: RemoteWireError.

    Shapes: [rid, 0, value] | [rid, 1, kind, text] | [0, "members", [address, ...]], and
            [rid, 2, value] for what comes before the answer.
    """
    if not isinstance(message, list) or len(message) < 3 or not _is_count(message[0]):
        raise RemoteWireError("an answer that is no list with an id")
    if message[0] == 0:
        is_right = _is_push(message)
    elif message[1] in (0, 2):
        is_right = len(message) == 3
    else:
        is_right = message[1] == 1 and len(message) == 4 and all(map(_is_text, message[2:]))
    if not is_right:
        raise RemoteWireError("an answer of no known shape")


def _is_push(message: list[Value]) -> bool:
    addresses = message[2]
    return (
        len(message) == 3
        and message[1] == "members"
        and isinstance(addresses, list)
        and all(map(_is_text, addresses))
    )
