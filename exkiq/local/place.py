"""`Local("q")`: a queue of this process, accepted wherever a queue's name is."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from exkiq.asked import Asked, Place
from exkiq.client import stand_in
from exkiq.job import Job
from exkiq.local.registry import registry
from exkiq.local.remote import clients_of_nodes
from exkiq.local.tasks import check_outlives
from exkiq.local.terms import CONCURRENCY, PLAIN, Terms, check_terms
from exkiq.machine import limits
from exkiq.options import check_queue_name

if TYPE_CHECKING:
    from exkiq.runnable import Runnable


@dataclass(frozen=True, init=False, repr=False)
class Local(Place):
    """A queue that only this process knows; one of the same name in the cluster is another.

        class Thumbnail(Worker, queue=Local("images")): ...

        send.set(queue=Local("mails", durable="mails.db")).perform_async(...)

    Its jobs run here: `def` in threads, `async def` on one loop. They may be anything that can
    be called, lambdas and nested functions too. All `Local("q")` of one name are one queue; it
    comes to life with its first job, and ends with the process, after those that run.

    Shapes: `durable` is a file that keeps the jobs over a restart, on the disk before anybody is
            told; it belongs to one process at a time, and its tasks stand at the top of a module
            or of the program itself. `concurrency` is how many jobs run at once, 10;
            `dispatcher` chooses their slots, `LRU`. A `Local` without options is the one of its
            name that has them. `node` names another node, on which the jobs run, in a queue of
            its own that its APP has by a class or task with `queue=Local("q")`; tasks are
            found there by their import path.
    Errors: ValueError for a bad option; AlreadyStarted for one that says other than before.
    """

    name: str
    terms: Terms
    node: str | None

    def __init__(
        self,
        name: str,
        *,
        durable: str | PathLike[str] | None = None,
        node: str | None = None,
        concurrency: int = CONCURRENCY,
        dispatcher: object = None,
    ) -> None:
        object.__setattr__(self, "name", check_queue_name(name))
        object.__setattr__(self, "terms", check_terms(durable, concurrency, dispatcher))
        object.__setattr__(self, "node", _check_node(node, self.terms))
        if self.terms != PLAIN:
            registry.know(self.name, self.terms)

    def __repr__(self) -> str:
        node = "" if self.node is None else f", node={self.node!r}"
        return f"Local({self.name!r}{node}{self.terms})"

    def job(self, job_id: str) -> Job:
        """The handle of one of its jobs by the id. Errors: NoQueueError."""
        return self.known_client().job(job_id)

    def start(self) -> Local:
        """Run its jobs from now on: those that a `durable` one still has from before."""
        if self.node is None and stand_in() is None:
            registry.household(self.name, self.terms)
        return self

    # ---- as a place ----------------------------------------------------------------------------

    def declare(self) -> None:
        """A class or a task says that its jobs go here."""
        if self.node is None:
            registry.know(self.name, self.terms)

    def client(self) -> Asked:
        """Who takes its jobs.

        Errors: ConfigError, DataError: its file cannot be used; Refused: one queue too many.
        """
        desk = stand_in()
        if desk is not None:
            self.declare()
            return desk.take_in(self.name)
        if self.node is not None:
            return clients_of_nodes.find(self.node, self.name)
        return registry.household(self.name, self.terms).client

    def known_client(self) -> Asked:
        """The same for questions. Errors: NoQueueError for a queue nobody declared or used."""
        desk = stand_in()
        if desk is not None:
            if self.node is None:
                registry.must_know(self.name)
            return desk.take_in(self.name)
        if self.node is not None:
            return clients_of_nodes.find(self.node, self.name)
        return registry.known_household(self.name, self.terms).client

    def task_name(self, runnable: Runnable) -> str:
        """The name by which its jobs find this task. Errors: SerializationError."""
        if self.node is not None:
            runnable.check_path()
            return runnable.name
        desk = stand_in()
        if desk is not None:
            durable = self.terms.durable or registry.terms_of(self.name).durable
            if durable is not None:
                check_outlives(runnable, durable)
            return desk.task_name(runnable)
        return registry.household(self.name, self.terms).name_of(runnable)


def _check_node(node: object, terms: Terms) -> str | None:
    """The name of a node. Errors: ValueError."""
    if node is None:
        return None
    if not isinstance(node, str) or not 1 <= len(node) <= limits.NAME_CHARS_MAX:
        raise ValueError(f"node must be the name of a node, not {node!r}")
    if terms != PLAIN:
        raise ValueError(f"node={node!r}: what a queue of another node is like is said there")
    return node
