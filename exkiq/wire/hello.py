"""Who speaks: what each side says of itself before anything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from exkiq.errors import RemoteWireError
from exkiq.machine import schema as schemas
from exkiq.machine.limits import INT_MAX
from exkiq.wire.frames import Value

PROTOCOL_VERSION = 1

# an island is the only member of a cluster that never held a job: it may yield to another one
Role: TypeAlias = Literal["member", "island", "fresh", "client"]
ROLES: frozenset[str] = frozenset(get_args(Role))

# In UTF-8 bytes; together they leave room for the nonce in a handshake frame of 1 KiB.
TEXT_BYTES_MAX = {
    "role": 8,
    "name": 128,
    "run_id": 64,
    "incarnation": 64,
    "address": 262,  # a DNS name is at most 255, then colon and port
    "cluster": 128,
    "cluster_id": 64,
}
UPDATABLE = ("role", "address", "cluster_id")


@dataclass(frozen=True, slots=True)
class Hello:
    """One side of a link.

    A node's identity is `name` and `incarnation` (one life of its data folder); `run_id` is one
    run of its process. `cluster_id` is empty until the cluster is founded. A client may leave
    `cluster` empty: it takes whichever cluster answers. `schema` is the newest one that its
    release can apply to the log.
    """

    role: Role
    name: str
    run_id: str = ""
    incarnation: str = ""
    address: str = ""
    cluster: str = "default"
    cluster_id: str = ""
    schema: int = schemas.SCHEMA
    protocol_version: int = PROTOCOL_VERSION

    @property
    def is_node(self) -> bool:
        return self.role != "client"

    def fields(self) -> dict[str, str | int]:
        """What travels; the protocol version travels beside it, readable to every version."""
        texts: dict[str, str | int] = {field: getattr(self, field) for field in TEXT_BYTES_MAX}
        return texts | {"schema": self.schema}

    @classmethod
    def from_fields(cls, fields: Value, protocol_version: int = PROTOCOL_VERSION) -> Hello:
        """The other side's hello. Errors: RemoteWireError naming the odd field.

        Shapes: fields that a later release brings are not looked at; who says nothing of a
                schema has the first.
        """
        if not isinstance(fields, dict) or not fields.keys() >= TEXT_BYTES_MAX.keys():
            raise RemoteWireError("a hello that lacks a field")
        for field, bytes_max in TEXT_BYTES_MAX.items():
            _check_text(field, fields[field], bytes_max)
        if fields["role"] not in ROLES:
            raise RemoteWireError("a hello with an unknown role")
        if not fields["name"]:
            raise RemoteWireError("a hello without a name")
        schema = fields.get("schema", schemas.FIRST)
        if type(schema) is not int or not schemas.FIRST <= schema <= INT_MAX:
            raise RemoteWireError("a hello whose schema is no number from 1 on")
        texts = {field: fields[field] for field in TEXT_BYTES_MAX}
        return cls(**texts, schema=schema, protocol_version=protocol_version)  # type: ignore[arg-type]

    def is_of_other_cluster(self, other: Hello) -> bool:
        """Whether both belong to founded clusters, and not to the same one."""
        return bool(self.cluster_id and other.cluster_id and self.cluster_id != other.cluster_id)

    def is_same_run(self, other: Hello) -> bool:
        """Whether both were said by one run of one process."""
        return (self.name, self.incarnation, self.run_id) == (
            other.name,
            other.incarnation,
            other.run_id,
        )


def _check_text(field: str, text: Value, bytes_max: int) -> None:
    # Printable, because these texts end up in log lines.
    if not isinstance(text, str) or not text.isprintable() or len(text.encode()) > bytes_max:
        raise RemoteWireError(f"a hello whose {field} is not text of at most {bytes_max} bytes")
