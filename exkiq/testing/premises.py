"""What a test has of queues of one process: their names, and tasks that cannot be imported."""

from __future__ import annotations

from exkiq.local.tasks import TaskTable
from exkiq.machine import Record
from exkiq.pool.work import Catalog, Work
from exkiq.runnable import Runnable
from exkiq.task import App
from exkiq.testing.stage import Stage


class Premises:
    """Finds what a job runs: by the rules of its process, or of a node.

    A local queue and one of the cluster are one here if they have the same name.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._queues: set[str] = set()
        self._tasks = TaskTable(self._needed)
        self._here, self._on_nodes = Catalog(self._tasks), Catalog(App(()))

    def take_in(self, queue: str) -> None:
        """The jobs of this queue are for this process."""
        self._queues.add(queue)

    def name_of(self, runnable: Runnable) -> str:
        """The name by which jobs find this task."""
        name = self._tasks.name_of(runnable)
        if self._tasks.is_look_due:
            self._tasks.look()
        return name

    def work_of(self, record: Record) -> Work:
        """Errors: UnknownTask, or whatever importing its module raises."""
        is_here = record.spec.queue in self._queues or self._tasks.has(record.spec.task)
        return (self._here if is_here else self._on_nodes).find(record.spec.task)

    def _needed(self) -> set[str]:
        return {record.spec.task for record in self._stage.waiting()}
