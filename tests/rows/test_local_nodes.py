"""Rows about local queues of other nodes, and about backends."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import exkiq
from exkiq import Local, task
from exkiq import client as clients
from exkiq.errors import (
    NoQueueError,
    SerializationError,
)
from exkiq.local.registry import registry
from exkiq.operation_ids import OperationIds
from exkiq.queues import HouseQueue
from exkiq.queues.backend import Queue
from exkiq.testing import QueueContract
from tests.rows.local_jobs import OnlyOnSecond, OnNode
from tests.rows.nodes import Group


@pytest.fixture(autouse=True)
def _no_queue_is_left() -> Iterator[None]:
    yield
    registry.forget()


# ---- HD-22: backends --------------------------------------------------------------------------


class Test_HD_22_replicated(QueueContract):  # noqa: N801 - named as its row is
    """The contract of backends on a queue in the log; `tests/queues` has the other houses."""

    @pytest.fixture(autouse=True)
    def _node(self, single: Group) -> None:
        [self.node] = single.nodes.values()

    def make(self) -> Queue:
        node = self.node
        house = node._participant().house

        def propose(op: bytes) -> Any:
            return node._on_loop(house.propose(op, 5.0), 10.0)

        name = f"contract {self._number}"  # nobody serves it
        ids = OperationIds(os.urandom)
        return HouseQueue("replicated", name, lambda: house.machine, propose, ids)


# ---- HD-16: nodes send each other work ----------------------------------------------------------


@pytest.fixture(scope="module")
def trio() -> Iterator[Group]:
    """Two nodes with local queues of their own, and one without slots."""
    names = ("n1", "n2", "n3")
    each = {"n3": {"concurrency": 0}}
    apps = "tests.rows.local_jobs"
    group = Group(names, app=apps, concurrency=2, cluster="rows-local", each=each).start()
    yield group
    group.stop()


def test_HD_16_a_job_for_one_node_runs_there(trio: Group) -> None:
    """Nodes that have each a queue of their own could not send each other work."""
    trio.use()
    on = {name: Local("desk", node=name) for name in ("n1", "n2")}
    here = [OnNode.set(queue=on["n1"]).call(n, timeout=20) for n in range(3)]
    there = [OnNode.set(queue=on["n2"]).call(n, timeout=20) for n in range(3)]
    assert [row[:2] for row in here + there] == 2 * [[n, "desk"] for n in range(3)]
    assert len({row[2] for row in here}) == len({row[2] for row in there}) == 1
    assert len({here[0][2], there[0][2], os.getpid()}) == 3
    assert OnlyOnSecond.call(timeout=20) == "own"


def test_HD_16_its_jobs_are_on_that_node_alone(trio: Group) -> None:
    """What was sent to one node would be replicated, or be mixed with a queue of the cluster."""
    trio.use()
    queue = Local("desk", node="n2")
    exkiq.queue(queue).pause()
    job = OnNode.set(queue=queue, id="there").perform_async(1)
    late = OnNode.set(queue=queue).perform_in(2, hours=1)
    assert [each.id for each in exkiq.queue(queue).jobs("queued")] == ["there"]
    assert exkiq.queue(queue).stats().scheduled == 1
    assert [late.cancel(), job.status().state] == ["ok", "queued"]
    assert all("desk" not in counts for counts in trio.each(lambda client: client.stats()))
    assert "there" not in [each.id for each in exkiq.queue(Local("desk", node="n1")).jobs()]
    exkiq.queue(queue).resume()
    assert job.result(timeout=20)[0] == 1


def test_HD_16_each_node_hands_the_request_on(trio: Group) -> None:
    """Only who is connected to that node could use its queue."""
    for name in trio.nodes:
        with trio.client_of(name) as client:
            before = clients.use(client)
            assert OnNode.set(queue=Local("desk", node="n1")).call(7, timeout=20)[0] == 7
            clients.use(before)


def test_HD_16_nobody_there_is_an_error_at_once(trio: Group) -> None:
    """A job for a node that is not there would be lost, or a caller would wait."""
    trio.use()
    for queue, named in (
        (Local("desk", node="nobody"), "node nobody"),
        (Local("slip", node="n2"), "no local queue 'slip'"),
        (Local("own", node="n1"), "no local queue 'own'"),
        (Local("desk", node="n3"), "no local queue 'desk'"),
    ):
        with pytest.raises(NoQueueError, match=named):
            OnNode.set(queue=queue).perform_async(1)
        with pytest.raises(NoQueueError, match=named):
            exkiq.queue(queue).stats()
    with pytest.raises(SerializationError, match="lambda"):
        task(queue=Local("desk", node="n2"))(lambda: 1).perform_async()
    with pytest.raises(ValueError, match="node"):
        Local("desk", node="n2", concurrency=3)


def test_HD_16_a_node_that_goes_away_leaves_nobody_waiting(trio: Group) -> None:
    """Who waits for a node that is gone would wait for ever."""
    trio.use()
    queue = Local("desk", node="n2")
    exkiq.queue(queue).pause()
    with trio.client_of("n1") as client:
        clients.use(client)
        job = OnNode.set(queue=queue).perform_async(1)
        waiting = threading.Timer(0.3, trio.take_down, ("n2",))
        waiting.start()
        with pytest.raises(NoQueueError, match="n2"):
            job.result(timeout=20)
        waiting.join()
        with pytest.raises(NoQueueError, match="n2"):
            OnNode.set(queue=queue).perform_async(2)
    trio.use()
