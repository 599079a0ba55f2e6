"""One attempt's pipeline, and the parts around it, without processes."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from typing import Any

import pytest

from exkiq.clock import ManualClock
from exkiq.errors import JobTooLarge, SerializationError
from exkiq.machine import limits
from exkiq.pool import Assignment, JobContext, current_job, entered
from exkiq.pool.ability import Ability
from exkiq.pool.assignment import chance_of
from exkiq.pool.attempt import Attempt, Outcome, Stop, run_in_thread, run_on_loop
from exkiq.pool.error_text import cut_message, cut_traceback, error_row
from exkiq.pool.outbox import Outbox
from exkiq.pool.threads import ThreadExecutor
from exkiq.pool.words import Word
from exkiq.pool.work import Catalog, Slot, Work
from tests.pool.harness import job, until
from tests.pool.pool_loader import TestApp, TestTask


class FakePort:
    def __init__(self) -> None:
        self.is_stopping = False
        self.saved: list[tuple[str, bytes]] = []
        self.notes: list[tuple[str, str]] = []

    def save(self, job: Assignment, checkpoint: bytes) -> None:
        self.saved.append((job.id, checkpoint))

    def note(self, job: Assignment, text: str) -> None:
        self.notes.append((job.id, text))

    def tell(self, job: Assignment, progress: bytes) -> None:
        raise AssertionError("nobody says how far it is")

    def succeeded(self, job: Assignment, mode: object, value: object, run_ms: int) -> None:
        raise AssertionError("there is no mode")


def attempt_of(task: TestTask, clock: ManualClock | None = None, **changes: Any) -> Attempt:
    changed = job("a", task.name, **changes)
    return Attempt(changed, Work.of(task), FakePort(), clock or ManualClock())


def run(task: TestTask, **changes: Any) -> Outcome:
    """The outcome of a `def` task, in a context of its own."""
    return Context().run(run_in_thread, attempt_of(task, **changes), Slot(), no_bridge)


def no_bridge(work: Any) -> object:
    raise AssertionError("nothing is to be awaited here")


def test_a_success_carries_fence_value_and_run_time() -> None:
    """The column would be wrong that tells how long jobs take."""
    clock = ManualClock()
    attempt = attempt_of(TestTask("t", lambda: clock.advance(1500)), clock)

    outcome = Context().run(run_in_thread, attempt, Slot(), no_bridge)

    assert outcome == (Word.DONE, ("a", 97, None, 1500))


def test_nothing_leaks_from_one_job_into_the_next() -> None:
    """A user's context variable of one customer would be seen by another's job."""
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: list[str] = []

    def work() -> None:
        seen.append(tenant.get())
        tenant.set("somebody")

    with asyncio.Runner() as runner:
        outbox = Outbox(runner.get_loop(), lambda frames: None)
        ability = Ability(runner.get_loop(), outbox, Catalog(TestApp((), {})))
        executor = ThreadExecutor(runner.get_loop(), outbox, ability, ManualClock(), slots_max=1)

        async def main() -> None:
            for _ in range(3):
                executor.submit(attempt_of(TestTask("t", work)))
                await until(lambda: not executor.is_busy)

        runner.run(main())
    assert seen == ["nobody"] * 3
    assert current_job() is None


def test_a_cancelled_attempt_is_handed_back_whatever_it_raises() -> None:
    """A drain would count as a failure if the job's clean-up breaks."""

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("clean-up broke")

    async def main() -> Outcome:
        attempt = attempt_of(TestTask("t", work, is_async=True))
        attempt.stop = Stop.HAND_BACK
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run_on_loop(attempt, Slot()))
            await asyncio.sleep(0)
            task.cancel()
        return task.result()

    assert asyncio.run(main()) == (Word.RETURNED, ["a", 97])


def test_what_is_returned_counts_even_if_a_stop_came_first() -> None:
    """Finished work would be done again."""
    attempt = attempt_of(TestTask("t", lambda: 5))
    attempt.stop = Stop.HAND_BACK

    word, _ = Context().run(run_in_thread, attempt, Slot(), no_bridge)

    assert word is Word.DONE


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", b"\x91\x90", b"\x92\x90\x90"])
def test_a_payload_that_is_no_call_fails_the_job(payload: bytes) -> None:
    """The child would break on it, and every child after that."""
    word, row = run(TestTask("t", lambda: 5), payload=payload)

    assert word is Word.FAILED
    assert row[3][0] == "SerializationError"


def test_wrong_arguments_are_told_without_our_frames() -> None:
    """The most common mistake would come with a page of our own code."""
    word, row = run(TestTask("t", lambda user_id: user_id))

    assert word is Word.FAILED
    assert "user_id" in row[3][1]
    assert "attempt.py" not in row[3][2]


def test_values_that_break_the_encoder_leave_the_job_succeeded() -> None:
    """A value inside itself, or text that is none, would fail a job that did its work."""
    inside: list[Any] = []
    inside.append(inside)
    for value in (inside, "\ud800", {(1,): 2}, 2**64, object(), {1, 2}):
        word, row = run(TestTask("t", lambda value=value: value))

        assert word is Word.DONE
        assert row[2].startswith(b"\xc1S")
        assert len(row[2]) > 4
        row[2][2:].decode()


def test_a_failing_make_leaves_no_instance_and_calls_no_hook() -> None:
    """The hook would be called on nothing; the next job would find half an instance."""
    slot, seen = Slot(), []

    def make() -> Any:
        raise ConnectionError("no server")

    task = TestTask("t", lambda: 5, make=make, after=lambda *given: seen.append(given))
    attempt = attempt_of(task)
    word, row = Context().run(run_in_thread, attempt, slot, no_bridge)

    assert (word, row) == (Word.RETURNED, ["a", 97])
    assert attempt.misfit is not None
    assert isinstance(attempt.misfit.error, ConnectionError)
    assert (seen, slot.instances) == ([], {})


def test_tasks_with_one_key_share_the_instance_of_a_slot() -> None:
    """A worker with two tasks would connect twice."""
    slot, made = Slot(), []

    def make() -> str:
        made.append(1)
        return "connection"

    for name in ("get", "put"):
        task = TestTask(name, lambda instance: instance, make=make)
        task.instance_key = "Riak"  # type: ignore[attr-defined]
        Context().run(run_in_thread, attempt_of(task), slot, no_bridge)

    assert made == [1]
    assert slot.instances == {"Riak": "connection"}


def test_a_broken_after_is_noted_and_changes_nothing() -> None:
    """A success would turn into a failure once its work was done."""

    def after(*given: Any) -> None:
        raise SystemExit("after broke")

    attempt = attempt_of(TestTask("t", lambda: 5, after=after))
    word, _ = Context().run(run_in_thread, attempt, Slot(), no_bridge)

    assert word is Word.DONE
    assert isinstance(attempt.port, FakePort)
    ((name, text),) = attempt.port.notes
    assert name == "a"
    assert "SystemExit: after broke" in text


def test_decide_is_asked_with_the_failures_and_in_the_jobs_context() -> None:
    """A rule could not tell the attempts or the jobs apart."""
    seen: list[Any] = []

    def decide(attempt: int, retries: int, error: BaseException) -> Any:
        current = current_job()
        seen.append((attempt, retries, str(error), current.id if current else None))
        return ("abandon",)

    def work() -> None:
        raise ValueError("broken")

    _, row = run(TestTask("t", work, decide_it=decide), attempt=3, retries=9)

    assert seen == [(3, 9, "broken", "a")]
    assert row[2] == ["abandon"]


# --- what a job can know ----------------------------------------------------------------------


def test_a_checkpoint_is_bounded_and_encodable() -> None:
    """The log would get a checkpoint that it refuses, and the job would not know."""
    port = FakePort()
    context = JobContext(job("a", "t"), port)

    with pytest.raises(JobTooLarge):
        context.save_checkpoint(bytes(limits.CHECKPOINT_BYTES_MAX))
    with pytest.raises(SerializationError):
        context.save_checkpoint(object())
    context.save_checkpoint([1])

    assert port.saved == [("a", b"\x91\x01")]


def test_entered_puts_the_job_there_and_away_again() -> None:
    """A job run in place would leave itself behind."""
    context = JobContext(job("a", "t"), FakePort())

    with entered(context):
        assert current_job() is context
    assert current_job() is None


def test_chance_is_spread_and_repeatable() -> None:
    """Jobs that failed together would all come back at the same moment."""
    chances = [chance_of(job(f"j{i}", "t")) for i in range(1000)]

    assert chances == [chance_of(job(f"j{i}", "t")) for i in range(1000)]
    assert all(0 <= chance < 1 for chance in chances)
    assert 0.4 < sum(chances) / 1000 < 0.6


# --- texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "x" * 9_999, "x" * 10_000, "x" * 10_001, "é" * 20_000])
def test_a_message_keeps_its_start(text: str) -> None:
    """The bound would be exceeded, or the first words lost."""
    cut = cut_message(text)

    assert len(cut) <= limits.ERROR_MESSAGE_CHARS_MAX
    assert cut[:9_000] == text[:9_000]


@pytest.mark.parametrize("text", ["", "x" * 8192, "x" * 8193, "é" * 8192, "€" * 3000, "a\ud800"])
def test_a_traceback_keeps_its_end(text: str) -> None:
    """The bound would be exceeded in bytes, or the last line lost."""
    cut = cut_traceback(text)

    assert len(cut.encode()) <= limits.TRACEBACK_BYTES_MAX
    assert cut[-20:] == text[-20:].replace("\ud800", "\\ud800")[-20:]


def test_a_chain_of_errors_is_told_to_its_end() -> None:
    """`raise ... from` would hide the cause."""

    def chain() -> None:
        try:
            dict[str, int]()["first"]
        except KeyError as error:
            raise ValueError("second") from error

    try:
        chain()
    except ValueError as error:
        kind, message, trace = error_row(error)

    assert (kind, message) == ("ValueError", "second")
    assert "KeyError: 'first'" in trace
    assert trace.rstrip().endswith("ValueError: second")
