"""What every backend of queues has to do, as checks that any test runner can run.

    from exkiq.queues.backend import Queue
    from exkiq.testing import QueueContract

    class TestMine(QueueContract):  # found by pytest as it is
        def make(self) -> Queue:
            return MyQueue()  # a class below Queue

Each `test_` method calls `make` once, and raises AssertionError where that queue breaks the
contract of `exkiq.queues.backend`, which says what each verb takes and gives. What the backend's
`capabilities` leave out has to be refused; `exkiq.queues.backend.require` does that.

No job is taken away at the end: begin with an empty store. Within a run no id is used twice, so
all queues may be in one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from exkiq.errors import JobAlreadyExists, UnsupportedOperation
from exkiq.queues.backend import NewJob, Operation, Queue, Reserved, Seen

CALL = b"\x92\x91\x01\x80"  # (1,) and no keywords
ERROR = ("ValueError", "broken", "the traceback")


class QueueContract:
    """The checks. `make` gives an empty queue, a new one each time; see the module."""

    _numbers = count(1)
    _number = 0

    def make(self) -> Queue:
        """A queue without jobs."""
        raise NotImplementedError(f"{type(self).__name__} has no make(), which gives the queue")

    def test_jobs_come_in_their_order_once(self) -> None:
        """A job would be run twice at a time, or one that came later first."""
        queue = self._with("a", "b", "c")
        self._are(queue.reserve(2), "a", "b")
        self._are(queue.reserve(5), "c")
        _equal(queue.reserve(5), [])

    def test_a_job_arrives_as_it_was_sent(self) -> None:
        """It would run something else."""
        queue = self._made()
        queue.enqueue([self._job("a")])
        [job] = queue.reserve(1)
        _equal((job.task, job.payload, job.attempt), ("app:task", CALL, 1))

    def test_counts_follow_the_jobs(self) -> None:
        """An operator would be told of jobs that are not there."""
        queue = self._with("a", "b")
        _counts(queue, count=2, in_progress=0)
        [first] = queue.reserve(1)
        _counts(queue, count=2, in_progress=1)
        _true(queue.ack(first), "the present start counts")
        _counts(queue, count=1, in_progress=0)

    def test_an_end_counts_once(self) -> None:
        """A late word of a start that was given up would end a job that runs elsewhere."""
        queue = self._with("a")
        [first] = queue.reserve(1)
        _true(queue.nack(first, ["requeue"], ERROR), "the present start counts")
        [second] = queue.reserve(1)
        _true(not queue.ack(first), "an earlier start counts no more")
        _true(queue.ack(second), "the present start counts")
        _true(not queue.ack(second), "an end counts once")
        _counts(queue, count=0, in_progress=0)

    def test_a_job_that_failed_comes_again(self) -> None:
        """A failure would lose the job, or hide that it is another attempt."""
        queue = self._with("a")
        [first] = queue.reserve(1)
        queue.nack(first, ["requeue"], ERROR)
        [again] = queue.reserve(1)
        _equal((again.id, again.payload), (first.id, first.payload))
        if Operation.FENCE in queue.capabilities():
            _true(again.fence > first.fence, "a fence grows with every start")

    def test_a_job_given_up_comes_no_more(self) -> None:
        """A job beyond help would be run for ever."""
        queue = self._with("a")
        queue.nack(queue.reserve(1)[0], ["failed"], ERROR)
        _equal(queue.reserve(1), [])
        _counts(queue, count=0, in_progress=0)

    def test_a_wait_before_a_retry_is_kept_or_refused(self) -> None:
        """A job that was to wait would come back at once, again and again."""
        queue = self._with("a")
        [job] = queue.reserve(1)
        wait: list[str | int] = ["retry", 3_600_000]
        if self._has(queue, Operation.RETRY_WAIT, lambda: queue.nack(job, wait, ERROR)):
            _equal(queue.reserve(1), [])
            _counts(queue, count=1, in_progress=0)

    def test_a_delay_is_kept_or_refused(self) -> None:
        """A job would run before its time."""
        queue = self._made()
        late = self._job("late", delay_ms=3_600_000)
        if self._has(queue, Operation.DELAY, lambda: _sent(queue, late)):
            _equal(queue.reserve(1), [])

    def test_priority_is_kept_or_refused(self) -> None:
        """What is urgent would wait behind all else."""
        queue = self._with("slow")
        fast = self._job("fast", priority=1)
        if self._has(queue, Operation.PRIORITY, lambda: _sent(queue, fast)):
            self._are(queue.reserve(1), "fast")

    def test_an_id_of_the_caller_is_kept_or_refused(self) -> None:
        """The same order, sent twice, would be two jobs."""
        queue = self._made()
        mine = self._job("mine", has_own_id=True)
        if self._has(queue, Operation.OWN_ID, lambda: _sent(queue, mine)):
            _equal(_sent(queue, mine), 0)
            _counts(queue, count=1, in_progress=0)
            unique = self._job("mine", has_own_id=True, is_unique=True)
            _raises(JobAlreadyExists, lambda: _sent(queue, unique))

    def test_cancel_spares_what_runs(self) -> None:
        """A job would be stopped half-way, or one that was called off would run."""
        queue = self._with("a", "b")
        if not self._has(queue, Operation.CANCEL, lambda: queue.cancel("nobody")):
            return
        _equal(queue.cancel("nobody"), "not_found")
        self._are(queue.reserve(1), "a")
        _equal(queue.cancel(self._job("a").id), "in_progress")
        _equal(queue.cancel(self._job("b").id), "ok")
        _equal(queue.reserve(1), [])
        _counts(queue, count=1, in_progress=1)

    def test_a_list_that_raises_leaves_the_queue_alive(self) -> None:
        """A slip in a filter would stop the queue for all."""
        queue = self._with("a", "b")

        def slip(job: Seen) -> bool:
            raise ZeroDivisionError(job.id)

        if self._has(queue, Operation.WHERE, lambda: queue.jobs(where=lambda _: True)):
            self._are(queue.jobs(where=lambda job: job.id == self._job("b").id), "b")
            _raises(ZeroDivisionError, lambda: queue.jobs(where=slip))
        self._are(queue.reserve(2), "a", "b")

    def test_what_is_refused_leaves_no_trace(self) -> None:
        """A caller who was told no would find the job done all the same."""
        queue = self._made()
        if Operation.OWN_ID in queue.capabilities():
            queue.enqueue([self._job("a")])
            before = queue.stats()
            taken = self._job("a", has_own_id=True, is_unique=True)
            _raises(JobAlreadyExists, lambda: _sent(queue, taken))
            _equal(queue.stats(), before)

    def test_a_group_is_stored_whole_or_not_at_all(self) -> None:
        """A caller who was told no would find half of the jobs done."""
        queue = self._made()
        if Operation.OWN_ID in queue.capabilities():
            queue.enqueue([self._job("a")])
            taken = self._job("a", has_own_id=True, is_unique=True)
            _raises(JobAlreadyExists, lambda: queue.enqueue([self._job("b"), taken]))
            _counts(queue, count=1, in_progress=0)

    # ---- inside --------------------------------------------------------------------------------

    def _made(self) -> Queue:
        self._number = next(QueueContract._numbers)
        return self.make()

    def _job(self, name: str, **wish: Any) -> NewJob:
        return NewJob(f"{name}{self._number}", "app:task", CALL, **wish)

    def _are(self, jobs: Sequence[Reserved] | Sequence[Seen], *names: str) -> None:
        _equal([job.id for job in jobs], [self._job(name).id for name in names])

    def _with(self, *names: str) -> Queue:
        queue = self._made()
        jobs = [self._job(name) for name in names]
        for job in jobs:
            queue.validate(job)
        _equal(queue.enqueue(jobs), len(jobs))
        return queue

    def _has(self, queue: Queue, operation: Operation, attempt: Callable[[], object]) -> bool:
        """Whether it can do that; if not, it has to say so, and to stay as it is."""
        if operation in queue.capabilities():
            attempt()
            return True
        before = queue.stats()
        error = _raises(UnsupportedOperation, attempt)
        _true(queue.kind in str(error), f"the error names the kind {queue.kind!r}: {error}")
        _true(operation.value in str(error), f"the error names {operation.value!r}: {error}")
        _equal(queue.stats(), before)
        return False


def _sent(queue: Queue, job: NewJob) -> int:
    queue.validate(job)
    return queue.enqueue([job])


def _counts(queue: Queue, *, count: int, in_progress: int) -> None:
    stats = queue.stats()
    _equal((stats["count"], stats["in_progress"]), (count, in_progress))


def _raises(kind: type[Exception], attempt: Callable[[], object]) -> Exception:
    try:
        attempt()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def _equal(found: object, expected: object) -> None:
    if found != expected:
        raise AssertionError(f"{expected!r} was expected, and {found!r} came")


def _true(is_so: bool, law: str) -> None:
    if not is_so:
        raise AssertionError(f"the law was broken: {law}")
