"""A node's part in running jobs, against the machine itself and a pretend pool."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exkiq.clock import ManualClock
from exkiq.machine import Spec, commands
from exkiq.machine.limits import OP_BYTES_MAX, RESULT_BYTES_MAX
from exkiq.operation_ids import OperationIds
from exkiq.pool import VALUE_TOO_LARGE, Assignment, Report
from exkiq.pool.report import Done
from exkiq.queues.local import LocalHouse
from exkiq.session import PART_BYTES_MAX, PART_ROWS_MAX, NodeSession, in_parts


class PretendPool:
    def __init__(self, slots: int) -> None:
        self.slots, self.given, self.abandoned = slots, [], 0
        self.given: list[Assignment]
        self.unable: tuple[str, ...] = ()
        self.stopped: list[tuple[str, int]] = []
        self.told: list[str] = []

    @property
    def free_by_group(self) -> dict[str, int]:
        return {"": self.slots - len(self.given), "pool": 3}

    def stop_job(self, job_id: str, fence: int) -> None:
        self.stopped.append((job_id, fence))

    def committed(self, ids: list[str]) -> None:
        self.told += ids

    def run(self, assignments: list[Assignment]) -> None:
        self.given += assignments

    def abandon(self) -> None:
        self.abandoned += 1
        self.given.clear()


class Stage:
    """A house without Raft, one session, and what was told to the leader."""

    def __init__(self) -> None:
        self.ids = OperationIds(lambda count: b"p" * count)
        self.house = LocalHouse(ManualClock())
        self.pool = PretendPool(10)
        self.told: list[list[Any]] = []
        self.session = NodeSession("n1", "run-1", self.house, self.ids, self.told.append)
        self.house.subscribe(self.session.applied)
        self.session.begin(asyncio.get_running_loop(), self.pool, {"q": 1}, "h:1")

    @property
    def machine(self) -> Any:
        return self.house.machine

    def enqueue(self, *ids: str) -> None:
        op = commands.enqueue(self.ids(), Spec("m:t", "q"), ids, [b"\x92\x90\x80"] * len(ids))
        self.house.propose_nowait(op)

    def claim(self, *ids: str) -> None:
        grants = [("n1", self.machine.sessions["n1"].id, ids)]
        self.house.propose_nowait(commands.claim(self.ids(), grants))


def on_stage(play: Any) -> None:
    async def main() -> None:
        stage = Stage()
        play(stage)
        stage.session.stop()

    asyncio.run(main())


def test_a_claimed_job_reaches_the_pool_once_and_its_end_the_log() -> None:
    def play(stage: Stage) -> None:
        stage.enqueue("a", "b")
        stage.claim("a", "b")
        assert [(job.id, job.attempt) for job in stage.pool.given] == [("a", 1), ("b", 1)]
        fence = stage.pool.given[0].fence
        stage.session.report(Report(done=Done(["a"], [fence], [b"\x01"], [5])))
        assert stage.machine.jobs["a"].state == "succeeded"
        assert stage.machine.jobs["a"].result == b"\x01"
        assert stage.machine.jobs["b"].state == "running"
        assert stage.session.running == 1

    on_stage(play)


def test_demand_says_what_was_seen_and_what_is_free() -> None:
    """Credit that counts a claim twice or not at all idles slots or overfills them."""

    def play(stage: Stage) -> None:
        stage.enqueue("a")
        stage.claim("a")
        stage.session.report(Report())
        _kind, session, seen, free, queues, unable = stage.told[-1]
        assert (seen, free, queues, unable) == (1, {"": 9, "pool": 3}, {"q": 1}, [])
        assert session == stage.machine.sessions["n1"].id

    on_stage(play)


def test_a_session_that_was_ended_stops_its_jobs_and_begins_anew() -> None:
    """Others run them now: going on would run them twice."""

    def play(stage: Stage) -> None:
        stage.enqueue("a")
        stage.claim("a")
        first = stage.session.id
        over = commands.session_over(stage.ids(), "n1", first, is_orderly=False)
        stage.house.propose_nowait(over)
        assert stage.pool.abandoned == 1
        assert stage.session.id not in (0, first)
        assert stage.machine.jobs["a"].state == "queued"
        assert stage.machine.jobs["a"].lost == 1

    on_stage(play)


def test_a_claim_that_comes_while_stopping_goes_back_uncounted() -> None:
    def play(stage: Stage) -> None:
        stage.session.stop_taking()
        stage.enqueue("a")
        stage.claim("a")
        assert stage.pool.given == []
        record = stage.machine.jobs["a"]
        assert (record.state, record.lost, record.failures) == ("queued", 0, 0)

    on_stage(play)


def test_claims_inside_of_a_snapshot_are_started() -> None:
    """A node that caught up by snapshot would leave its jobs running for ever unseen."""

    def play(stage: Stage) -> None:
        stage.enqueue("a", "b")
        stage.claim("a")
        given = list(stage.pool.given)
        session = stage.machine.sessions["n1"]
        grants = [("n1", session.id, ["b"])]
        stage.machine.apply(
            stage.machine.index + 1, _entry(stage, commands.claim(stage.ids(), grants))
        )
        assert stage.pool.given == given
        stage.session.installed()
        assert [job.id for job in stage.pool.given] == ["a", "b"]
        stage.session.installed()
        assert len(stage.pool.given) == 2

    on_stage(play)


def test_what_was_reported_is_not_run_again_after_a_snapshot() -> None:
    """The snapshot may be older than the report that is under way: a job would run twice."""

    def play(stage: Stage) -> None:
        stage.enqueue("a")
        stage.claim("a")
        fence = stage.pool.given[0].fence
        under_way: list[bytes] = []
        stage.house.propose_nowait = under_way.append  # type: ignore[method-assign]
        stage.session.report(Report(done=Done(["a"], [fence], [None], [1])))
        assert len(under_way) == 1
        assert stage.machine.jobs["a"].state == "running"
        stage.session.installed()
        assert len(stage.pool.given) == 1

    on_stage(play)


def test_a_session_that_changed_inside_of_a_snapshot_drops_its_jobs() -> None:
    def play(stage: Stage) -> None:
        stage.enqueue("a")
        stage.claim("a")
        begun = [
            commands.session_over(stage.ids(), "n1", stage.session.id, is_orderly=False),
            commands.session_begin(stage.ids(), "n1", "run-1", "h:1"),
        ]
        for op in begun:
            stage.machine.apply(stage.machine.index + 1, _entry(stage, op))
        stage.session.installed()
        assert stage.pool.abandoned == 1
        assert stage.session.id == stage.machine.sessions["n1"].id

    on_stage(play)


def _entry(stage: Stage, op: bytes) -> bytes:
    return commands.encode_entry(stage.machine.now_ms, stage.machine.term, [op])


def test_a_value_that_was_too_large_says_so_in_the_log() -> None:
    def play(stage: Stage) -> None:
        stage.enqueue("a")
        stage.claim("a")
        done = Done(["a"], [stage.pool.given[0].fence], [VALUE_TOO_LARGE], [1])
        stage.session.report(Report(done=done))
        assert stage.machine.jobs["a"].result.kind == "ResultTooLarge"

    on_stage(play)


def test_large_reports_become_operations_below_the_limit() -> None:
    """An operation over its limit is refused, and its jobs would never end."""

    def play(stage: Stage) -> None:
        ids = [f"j{number}" for number in range(30)]
        stage.pool.slots = 100
        stage.enqueue(*ids)
        stage.claim(*ids)
        fences = [job.fence for job in stage.pool.given]
        value = b"\xc5\xff\xff" + b"x" * (RESULT_BYTES_MAX - 3)
        done = Done(ids[:15], fences[:15], [value] * 15, [1] * 15)
        error = ["ValueError", "m" * 10_000, "t" * 8_192]
        failed = [[i, f, ["failed"], error, 1] for i, f in zip(ids[15:], fences, strict=False)]
        stage.session.report(Report(done=done, failed=failed))
        states = [stage.machine.jobs[job_id].state for job_id in ids]
        assert states == ["succeeded"] * 15 + ["failed"] * 15

    on_stage(play)


@given(st.lists(st.integers(0, RESULT_BYTES_MAX), max_size=60))
def test_parts_cover_everything_once_and_stay_small(sizes: list[int]) -> None:
    parts = list(in_parts(sizes))
    covered = [size for part in parts for size in sizes[part]]
    assert covered == sizes
    for part in parts:
        assert len(sizes[part]) <= PART_ROWS_MAX
        assert sum(sizes[part]) <= max(PART_BYTES_MAX, RESULT_BYTES_MAX)
        assert sum(sizes[part]) < OP_BYTES_MAX


@pytest.mark.parametrize("field", ["returned", "lost"])
def test_what_comes_back_is_queued_again(field: str) -> None:
    def play(stage: Stage) -> None:
        stage.enqueue("a")
        stage.claim("a")
        fence = stage.pool.given[0].fence
        report = (
            Report(returned=[("a", fence, b"\x07")])
            if field == "returned"
            else Report(lost=[("a", fence)])
        )
        stage.session.report(report)
        record = stage.machine.jobs["a"]
        assert record.state == "queued"
        assert (record.lost, record.checkpoint) == (
            (0, b"\x07") if field == "returned" else (1, None)
        )

    on_stage(play)


def test_what_no_node_has_to_give_is_not_given_while_stopping() -> None:
    """A node that drains would be handed jobs for the slots of its pools."""

    def play(stage: Stage) -> None:
        stage.pool.unable = ("m:gone",)
        stage.session.stop_taking()
        _kind, _session, _seen, free, _queues, unable = stage.told[-1]
        assert (free, unable) == ({"": 0, "pool": 0}, ["m:gone"])

    on_stage(play)


def test_a_job_cancelled_while_it_runs_is_stopped_where_it_runs() -> None:
    """It would run to its end, and only then be called cancelled."""

    def play(stage: Stage) -> None:
        stage.enqueue("a", "b")
        stage.claim("a", "b")
        fence = stage.pool.given[0].fence
        stage.house.propose_nowait(commands.cancel(stage.ids(), "a", running=True))
        assert stage.pool.stopped == [("a", fence)]
        stage.session.installed()  # a snapshot may bring what was never applied here
        assert stage.pool.stopped == [("a", fence)] * 2

    on_stage(play)


def test_the_pool_is_told_once_that_a_success_it_waits_for_is_in_the_log() -> None:
    """A success mode would run for a result that is lost, or twice, or never."""

    def play(stage: Stage) -> None:
        stage.enqueue("a", "b", "c")
        stage.claim("a", "b", "c")
        a, b, c = (job.fence for job in stage.pool.given)
        done = Done(["a", "b"], [a, b], [b"\x01", None], [5, 5])
        error = ["ValueError", "m", "t"]
        failed = [["c", c, ["failed"], error, 1]]
        under_way: list[bytes] = []
        propose = stage.house.propose_nowait
        stage.house.propose_nowait = under_way.append  # type: ignore[method-assign]
        stage.session.report(Report(done=done, failed=failed, awaiting={"a", "c"}))
        assert stage.pool.told == []
        for op in under_way:
            propose(op)
        assert stage.pool.told == ["a"]
        assert stage.session._awaiting == set()
        stage.session.installed()
        assert stage.pool.told == ["a"]

    on_stage(play)


def test_a_success_inside_of_a_snapshot_is_told_too() -> None:
    def play(stage: Stage) -> None:
        stage.enqueue("a")
        stage.claim("a")
        done = Done(["a"], [stage.pool.given[0].fence], [None], [5])
        under_way: list[bytes] = []
        stage.house.propose_nowait = under_way.append  # type: ignore[method-assign]
        stage.session.report(Report(done=done, awaiting={"a"}))
        stage.machine.apply(stage.machine.index + 1, _entry(stage, under_way[0]))
        assert stage.pool.told == []
        stage.session.installed()
        assert stage.pool.told == ["a"]

    on_stage(play)
