"""What a node is told of the queues and pools of its APP, and goes by.

Its children say it as a row of plain values when they are ready; settings come before it.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from exkiq.config.kinds import WEIGHT_MAX
from exkiq.config.plugins import SHOWN_CHARS_MAX, Row, check_row, shown
from exkiq.errors import ConfigError, RemoteWireError
from exkiq.machine import limits

REPLICATED = "replicated"
DEFAULT_QUEUE = "default"  # where jobs go whose class names none; it is always there
DECLARED_MAX = 1_000  # queues, and pools, of one APP: their names go into one operation
INIT_RETRY_MS = 5_000  # between two tries of an `init`, where nobody says other
SLOTS_MAX = 10_000  # as the concurrency of one process
SECONDS_MAX = 86_400  # of waits and graces: a day
WARNINGS_MAX = 100
TASKS_MAX = 1_000  # names that a node tells people; it runs all that its APP has


@dataclass(frozen=True, slots=True)
class QueueTerms:
    """What a node is told of a queue. The modes are named for people: they stay in the child.

    Shapes: `dispatcher` is a row for `load_plugin`, None for the default one.
    """

    weight: int = 1
    is_paused: bool = False
    dispatcher: Row | None = None
    backend: str = REPLICATED
    failure_mode: str = ""
    success_mode: str = ""


@dataclass(frozen=True, slots=True)
class PoolTerms:
    """What a node is told of a pool, the slots that serve one queue alone."""

    worker: str = ""
    slots: int = 10
    init_retry_ms: int = INIT_RETRY_MS
    shutdown_ms: int = 10_000


@dataclass(frozen=True, slots=True)
class Declarations:
    """What a node goes by.

    Shapes: `warnings` are lines for its log, each to be said once; `tasks` the names of what its
            APP can run, sorted; `local_queues` are those that one node has for itself:
            (queue, node), "" for every node.
    """

    queues: Mapping[str, QueueTerms] = field(default_factory=dict)
    pools: Mapping[str, PoolTerms] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    local_queues: tuple[tuple[str, str], ...] = ()

    @property
    def slots(self) -> dict[str, int]:
        """Queue -> slots, of the pools."""
        return {queue: terms.slots for queue, terms in self.pools.items()}

    @property
    def dispatchers(self) -> dict[str, Row]:
        """Queue -> row, of those that have a dispatcher of their own."""
        return {
            name: terms.dispatcher
            for name, terms in self.queues.items()
            if terms.dispatcher is not None
        }

    @property
    def paused(self) -> list[str]:
        """The queues that come into being paused."""
        return [name for name, terms in self.queues.items() if terms.is_paused]

    def to_row(self) -> list[Any]:
        """As it travels; `from_row` is the way back."""
        return [
            {name: _plain(terms) for name, terms in self.queues.items()},
            {name: _plain(terms) for name, terms in self.pools.items()},
            list(self.warnings),
            list(self.tasks),
            [list(each) for each in self.local_queues],
        ]

    @classmethod
    def from_row(cls, row: Any) -> Declarations:
        """What a child said, which user code may have forged. Errors: RemoteWireError."""
        try:
            told_queues, told_pools, lines, tasks, local_queues = row
            return cls(
                {_name(name): _queue_terms(terms) for name, terms in _bounded(told_queues)},
                {_name(name): _pool_terms(terms) for name, terms in _bounded(told_pools)},
                tuple(_text(line, 4 * SHOWN_CHARS_MAX) for line in lines[:WARNINGS_MAX]),
                tuple(_text(name, limits.TASK_CHARS_MAX) for name in tasks[:TASKS_MAX]),
                tuple(_local_queue(each) for each in local_queues[: limits.QUEUES_MAX]),
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise RemoteWireError(f"no declarations: {error}") from error

    def local_to(self, node: str) -> tuple[str, ...]:
        """The queues that this node has for itself."""
        return tuple(sorted({queue for queue, of in self.local_queues if of in ("", node)}))

    def overridden(self, table: Mapping[str, Mapping[str, Any]]) -> Declarations:
        """These with what the settings say of a queue in place of what the APP says.

        Modes keep the names that a child told, who goes by the settings as well.
        """
        queues = dict(self.queues)
        for name, given in table.items():
            terms = queues.get(name, QueueTerms())
            queues[name] = replace(terms, **_as_terms(given, terms))
        return replace(self, queues=queues)

    def served(
        self, app: Sequence[str], settings: Mapping[str, int], tables: Container[str] = ()
    ) -> dict[str, int]:
        """Queue -> weight of what a node serves.

        Shapes: the queues of the settings, if they name any; else those of the APP's workers,
                of its declarations, and `default`. Those with a table there have the weight it
                says, if it does, else the declared one.
        """
        if settings:
            return {
                name: self.queues[name].weight if name in tables else weight
                for name, weight in settings.items()
            }
        names = dict.fromkeys([*app, *self.queues, *self.pools, DEFAULT_QUEUE])
        return {name: self.queues.get(name, QueueTerms()).weight for name in names}

    def check_slots(self, slots: int) -> None:
        """ConfigError if the pools want more slots than the node has; 0 is a node without any."""
        wanted = sum(self.slots.values())
        if slots and wanted > slots:
            told = ", ".join(f"{queue!r} {count}" for queue, count in self.slots.items())
            raise ConfigError(
                f"pools: they take {wanted} slots ({told}) and the node has {slots}; raise"
                " concurrency or processes, or declare smaller pools"
            )

    def options(self, weights: Mapping[str, int]) -> dict[str, Any]:
        """The effective options, for people: `stats()["options"]`.

        Units: init_retry_seconds and shutdown in seconds.
        """
        named = sorted({*weights, *self.queues})
        return {
            "queues": {
                name: _shown_queue(self.queues.get(name), weights.get(name)) for name in named
            },
            "pools": {queue: _shown_pool(terms) for queue, terms in sorted(self.pools.items())},
        }


# --- rows ------------------------------------------------------------------------------------


def _plain(terms: QueueTerms | PoolTerms) -> list[Any]:
    return list(asdict(terms).values())


def _bounded(table: Any) -> Sequence[tuple[Any, Any]]:
    if not isinstance(table, dict) or len(table) > DECLARED_MAX:
        raise ValueError(f"a table of at most {DECLARED_MAX} queues was expected")
    return list(table.items())


def _name(value: object) -> str:
    text = _text(value, limits.QUEUE_NAME_BYTES_MAX)
    if not 1 <= len(text.encode()) <= limits.QUEUE_NAME_BYTES_MAX:
        raise ValueError("a queue's name is too long, or empty")
    return text


def _text(value: object, chars_max: int) -> str:
    if not isinstance(value, str) or len(value) > chars_max:
        raise ValueError(f"text of at most {chars_max} characters was expected")
    return value


def _count(value: object, least: int, most: int) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"a number from {least} to {most} was expected")
    return value


def _queue_terms(row: Any) -> QueueTerms:
    weight, is_paused, dispatcher, *texts = row
    return QueueTerms(
        _count(weight, 1, WEIGHT_MAX),
        check_paused(is_paused),
        None if dispatcher is None else check_row("dispatcher", dispatcher),
        *(_text(text, SHOWN_CHARS_MAX) for text in texts),
    )


def _pool_terms(row: Any) -> PoolTerms:
    worker, slots, *waits = row
    return PoolTerms(
        _text(worker, limits.TASK_CHARS_MAX),
        _count(slots, 1, SLOTS_MAX),
        *(_count(wait, 0, SECONDS_MAX * 1000) for wait in waits),
    )


def _local_queue(row: Any) -> tuple[str, str]:
    queue, node = row
    return _name(queue), _text(node, limits.NAME_CHARS_MAX)


def _as_terms(given: Mapping[str, Any], told: QueueTerms) -> dict[str, Any]:
    """What the settings say, as fields of the terms."""
    terms: dict[str, Any] = {}
    for option, value in given.items():
        if option in ("failure_mode", "success_mode"):
            terms[option] = getattr(told, option) or str(value[0])[:SHOWN_CHARS_MAX]
        else:
            terms["is_paused" if option == "paused" else option] = value
    return terms


# --- checks ---------------------------------------------------------------------------------


def check_weight(value: object) -> int:
    """The share of a queue. Errors: ValueError."""
    if type(value) is not int or not 1 <= value <= WEIGHT_MAX:
        raise ValueError(f"weight must be an int from 1 to {WEIGHT_MAX}, not {shown(value)}")
    return value


def check_paused(value: object) -> bool:
    """Whether a queue begins paused. Errors: ValueError."""
    if not isinstance(value, bool):
        raise ValueError(f"paused must be True or False, not {shown(value)}")  # noqa: TRY004
    return value


# --- for people ------------------------------------------------------------------------------


def _shown_queue(terms: QueueTerms | None, weight: int | None) -> dict[str, Any]:
    terms = terms or QueueTerms()
    return {
        "weight": weight,  # None: this node does not serve it
        "paused": terms.is_paused,
        "backend": terms.backend,
        "dispatcher": None if terms.dispatcher is None else terms.dispatcher[0],
        "failure_mode": terms.failure_mode or None,
        "success_mode": terms.success_mode or None,
    }


def _shown_pool(terms: PoolTerms) -> dict[str, Any]:
    return {
        "worker": terms.worker,
        "slots": terms.slots,
        "init_retry_seconds": terms.init_retry_ms / 1000,
        "shutdown": terms.shutdown_ms / 1000,
    }
