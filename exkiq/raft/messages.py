"""The engine's messages and ours beside them: which there are, and which fields each must have.

Anything else closes the link it came on: the engine reads fields without asking.
"""

from __future__ import annotations

from typing import Any

from exkiq.errors import RemoteWireError
from exkiq.raft.chunks import Chunk
from exkiq.raft.membership import decode_change

Message = dict[str, Any]

_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "append_entries": {"term": int, "commit_index": int, "seq": int},
    "next_node_idx": {
        "next_node_idx": int,
        "reset": bool,
        "success": bool,
        "term": int,
        "seq": int,
    },
    "pre_vote": {"term": int, "last_log_index": int, "last_log_term": int, "round": int},
    "pre_vote_answer": {"term": int, "round": int, "granted": bool},
    "request_vote": {"term": int, "last_log_index": int, "last_log_term": int},
    "response_vote": {"term": int},
    "timeout_now": {"term": int},
}
_COUNTER_MAX = 2**62


def from_wire(message: object) -> Message:
    """Check a message of a peer and give it the types that the engine wants.

    Errors: RemoteWireError that names what is wrong.
    """
    if not isinstance(message, dict):
        raise RemoteWireError("an engine message that is no map")
    kind = message.get("type")
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    if fields is None:
        raise RemoteWireError(f"no such engine message: {str(kind)[:40]!r}")
    for name, kinds in fields.items():
        _check(message, name, kinds)
    if kind == "append_entries":
        _check_append(message)
    return message


def _check(message: Message, name: str, kinds: type | tuple[type, ...]) -> None:
    value = message.get(name)
    is_fine = isinstance(value, kinds) and (kinds is bool or not isinstance(value, bool))
    if not is_fine or (isinstance(value, int) and not 0 <= value <= _COUNTER_MAX):
        raise RemoteWireError(f"{message['type']}: {name} cannot be {str(value)[:40]!r}")


def _check_append(message: Message) -> None:
    if "transmission" in message:
        # The engine cuts what is over its batch size in pieces, and miscounts them.
        raise RemoteWireError("append_entries: entries in pieces are not taken")
    if "prevLogIdx" not in message:
        serialized = message.get("serialized")
        message["serialized"] = None if serialized is None else _chunk(serialized)
        return
    _check(message, "prevLogIdx", int)
    _check(message, "prevLogTerm", int)
    entries = message.get("entries", [])
    if not isinstance(entries, list):
        raise RemoteWireError("append_entries: entries are no list")
    message["entries"] = _entries(entries, message["prevLogIdx"] + 1, message["term"])


def _entries(entries: list[Any], expected: int, term_max: int) -> list[tuple[bytes, int, int]]:
    checked = []
    for entry in entries:
        if not isinstance(entry, list) or len(entry) != 3:
            raise RemoteWireError("append_entries: an entry has three fields")
        body, index, term = entry
        if not isinstance(body, bytes) or not body or type(index) is not int or index != expected:
            raise RemoteWireError("append_entries: an entry that cannot be")
        if type(term) is not int or not 0 <= term <= term_max:
            raise RemoteWireError("append_entries: an entry of a term that cannot be")
        decode_change(body)  # the engine decodes it after it has added it to the log
        checked.append((body, index, term))
        expected += 1
    return checked


def _chunk(serialized: object) -> Chunk:
    if not isinstance(serialized, list) or len(serialized) != 4:
        raise RemoteWireError("append_entries: a piece of snapshot has four fields")
    data, offset, is_last, id_ = serialized
    if not isinstance(data, bytes) or type(offset) is not int or type(is_last) is not bool:
        raise RemoteWireError("append_entries: a piece of snapshot that cannot be")
    if not 0 <= offset <= _COUNTER_MAX or not isinstance(id_, bytes):
        raise RemoteWireError("append_entries: a piece of snapshot that cannot be")
    return data, offset, is_last, id_
