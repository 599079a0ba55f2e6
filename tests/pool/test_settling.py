"""What children say, settled; and where jobs are put: with children of paper."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from exkiq.pool import Assignment, Report
from exkiq.pool import settling as settling_module
from exkiq.pool.children import ChildProcess, Ending, Stage
from exkiq.pool.ledger import Ledger
from exkiq.pool.placing import Placing
from exkiq.pool.report import Reporter
from exkiq.pool.settling import Settling
from exkiq.pool.words import Word
from tests.pool.harness import job

SLOTS = 4


class PaperChild:
    """A child without a process."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stage = Stage.READY
        self.ending = Ending.CRASH
        self.ledger = Ledger()
        self.exit_reason = "exit code 1"
        self.begun: list[str] = []
        self.unable: frozenset[str] = frozenset()
        self.is_late = False
        self.untouched: list[Assignment] = []

    @property
    def free(self) -> int:
        can_take = self.stage is Stage.READY and not self.is_late
        return SLOTS - len(self.ledger.running) if can_take else 0

    def free_in(self, group: str) -> int:
        assert group == ""
        return self.free

    def begin(self, jobs: list[Assignment]) -> None:
        for given in jobs:
            self.ledger.begin(given, 0.0)
            self.begun.append(given.id)

    def end(self, name: str) -> None:
        self.ledger.end(name)

    def run_ms(self, job: Assignment) -> int:
        return 5

    def replace(self, ending: Ending) -> None:
        self.stage, self.ending = Stage.ENDING, ending


def paper(*numbers: int) -> list[Any]:
    return [PaperChild(number) for number in numbers]


def settled(child: Any, say: Callable[[Settling], object]) -> Report:
    """The report of what happened in `say`."""
    reports: list[Report] = []

    async def main() -> None:
        reporter = Reporter(reports.append)
        say(Settling(reporter))
        reporter.flush()

    asyncio.run(main())
    return reports[0] if reports else Report()


# --- settling ---------------------------------------------------------------------------------


def test_only_the_first_outcome_of_this_very_start_counts() -> None:
    """A late outcome of an earlier start, or a second one, would end the job again."""
    child = PaperChild(1)
    child.begin([job("a", "t", fence=5), job("b", "t", fence=6)])

    def say(settling: Settling) -> None:
        row = ["a", 5, ["failed"], ["E", "m", ""], 1]
        done = [["a", "b", "c"], [4, 6, 1], [b"\x01", b"\x02", None], [1, 2, 3]]
        settling.heard(cast(ChildProcess, child), Word.DONE, done)
        settling.heard(cast(ChildProcess, child), Word.FAILED, [[row, row]])
        settling.heard(cast(ChildProcess, child), Word.RETURNED, [[["a", 5], ["b", 6]]])

    report = settled(child, say)

    assert (report.done.ids, report.done.fences) == (["b"], [6])
    assert (report.done.values, report.done.run_ms) == ([b"\x02"], [2])
    assert [row[0] for row in report.failed] == ["a"]
    assert report.returned == []


def test_checkpoints_of_ended_jobs_are_dropped_and_the_last_one_is_handed_back() -> None:
    """A job would start again from an old checkpoint."""
    child = PaperChild(1)
    child.begin([job("a", "t", fence=5, checkpoint=b"\x01")])

    def say(settling: Settling) -> None:
        rows = [["a", 5, b"\x02"], ["a", 4, b"\x09"], ["a", 5, b"\x03"], ["z", 1, b"\x09"]]
        settling.heard(cast(ChildProcess, child), Word.CHECKPOINTS, [rows])
        child.replace(Ending.HAND_BACK)
        settling.died(cast(ChildProcess, child))

    report = settled(child, say)

    assert report.checkpoints == [("a", 5, b"\x02"), ("a", 5, b"\x03")]
    assert report.returned == [("a", 5, b"\x03")]


@pytest.mark.parametrize(
    ("word", "rest"),
    [
        (Word.DONE, [["a"], [5], []]),
        (Word.DONE, [["a"], [5], [], [1]]),
        (Word.DONE, [["a"], [5], ["text"], [1]]),
        (Word.DONE, [["a"], [5], [None], [1.5]]),
        (Word.FAILED, [[["a", 5, ["explode"], ["E", "m", ""], 1]]]),
        (Word.FAILED, [[["a", 5, ["failed"], ["E", "m"], 1]]]),
        (Word.FAILED, [[["a", 5, ["failed"], ["E", 7, ""], 1]]]),
        (Word.FAILED, [[["a", 5, ["failed"], ["E", "m", ""], "1 ms"]]]),
        (Word.FAILED, [[["a", 5]]]),
        (Word.RETURNED, [7]),
        (Word.OVERDUE, [[["a", 5, ["failed"], "E", 1]]]),
        (Word.PROGRESS, [[["a", 5]]]),
        (Word.ABILITY, [[[["t"]]]]),
        (Word.ABILITY, [[[[7], {}]]]),
        (Word.ABILITY, [[[["t"], {"": "many"}]]]),
        (Word.AWAITING, [["a"]]),
        (Word.NOTES, [[["a", "text", "loud"]]]),
    ],
)
def test_nonsense_settles_nothing(word: Word, rest: list[Any]) -> None:
    """A job would be ended without a report: running for ever."""
    child = PaperChild(1)
    child.begin([job("a", "t", fence=5)])

    def say(settling: Settling) -> None:
        with pytest.raises((TypeError, ValueError, LookupError)):
            settling.heard(cast(ChildProcess, child), word, rest)

    assert settled(child, say).is_empty
    assert "a" in child.ledger.running


def test_progress_and_the_wish_to_know_of_the_commit_count_while_the_job_runs() -> None:
    """A job of an earlier start would speak for this one; or nobody would tell it."""
    child = PaperChild(1)
    child.begin([job("a", "t", fence=5), job("b", "t", fence=6)])

    def say(settling: Settling) -> None:
        rows = [["a", 5, b"\x01"], ["a", 4, b"\x09"], ["a", 5, b"\x02"], ["z", 1, b"\x09"]]
        settling.heard(cast(ChildProcess, child), Word.PROGRESS, [rows])
        settling.heard(cast(ChildProcess, child), Word.AWAITING, [[["a", 5], ["b", 5]]])
        done = [["a", "b"], [5, 6], [None, None], [1, 2]]
        settling.heard(cast(ChildProcess, child), Word.DONE, done)
        assert list(settling.awaiting) == ["a"]
        settling.died(cast(ChildProcess, child))
        assert settling.awaiting == {}

    report = settled(child, say)

    assert report.progress == [("a", 5, b"\x01"), ("a", 5, b"\x02")]
    assert report.awaiting == {"a"}


def test_a_death_with_one_job_is_its_failure_and_with_several_nobodys() -> None:
    """The innocent would be charged with a failure, or the culprit with none."""
    alone, crowd = PaperChild(1), PaperChild(2)
    alone.begin([job("a", "t", fence=5, attempt=6, retries=5)])
    crowd.begin([job("b", "t", fence=6), job("c", "t", fence=7)])
    suspects: list[str] = []

    def say(settling: Settling) -> None:
        for child in (alone, crowd):
            suspects.extend(job.id for job in settling.died(cast(ChildProcess, child)))

    report = settled(alone, say)

    assert [(row[0], row[2], row[4]) for row in report.failed] == [("a", ["failed"], 5)]
    assert report.lost == [("b", 6), ("c", 7)]
    assert suspects == ["b", "c"]


def test_what_a_dead_child_never_took_up_goes_back_uncounted() -> None:
    """A job that nobody began would be charged with the death, or hide who is to blame."""
    child = PaperChild(1)
    child.begin([job("a", "t", fence=5), job("b", "t", fence=6, checkpoint=b"\x01")])
    child.untouched = [child.ledger.running["b"], job("gone", "t", fence=7)]

    report = settled(child, lambda settling: settling.died(cast(ChildProcess, child)))

    assert report.returned == [("b", 6, b"\x01")]
    assert [row[0] for row in report.failed] == ["a"]


def test_a_cancelled_job_in_a_dead_child_may_be_to_blame() -> None:
    """Its one neighbour would be charged with a death that was not its own."""
    child = PaperChild(1)
    child.begin([job("a", "t", fence=5), job("b", "t", fence=6)])
    child.ledger.stopping.add("a")

    report = settled(child, lambda settling: settling.died(cast(ChildProcess, child)))

    assert [(row[0], cast("list[str]", row[3])[0]) for row in report.failed] == [
        ("a", "JobCancelled")
    ]
    assert report.lost == [("b", 6)]


def test_a_job_that_is_said_to_be_done_twice_at_once_is_done_once() -> None:
    """It would be ended without a report: running for ever."""
    child = PaperChild(1)
    child.begin([job("a", "t", fence=5), job("b", "t", fence=6)])
    twice = [["a", "a", "b"], [5, 5, 6], [None, b"\x01", None], [1, 2, 3]]

    report = settled(child, lambda s: s.heard(cast(ChildProcess, child), Word.DONE, twice))

    assert (report.done.ids, report.done.values) == (["a", "b"], [None, None])


def test_successes_that_are_never_committed_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of sessions that are over would fill the node's memory."""
    monkeypatch.setattr(settling_module, "AWAITING_MAX", 2)
    child = PaperChild(1)
    kept: list[str] = []

    def say(settling: Settling) -> None:
        for name in "abc":
            child.begin([job(name, "t", fence=5)])
            settling.heard(cast(ChildProcess, child), Word.AWAITING, [[[name, 5]]])
            settling.heard(cast(ChildProcess, child), Word.DONE, [[name], [5], [None], [1]])
        kept.extend(settling.awaiting)

    settled(child, say)
    assert kept == ["b", "c"]


def test_a_report_that_is_dropped_never_goes_out() -> None:
    """Outcomes of a session that is over would be proposed in the next one."""
    reports: list[Report] = []

    async def main() -> None:
        reporter = Reporter(reports.append)
        reporter.open().lost.append(("a", 1))
        reporter.drop()
        await asyncio.sleep(0)
        reporter.open()
        reporter.open()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(main())
    assert reports == [Report()]


# --- placing ----------------------------------------------------------------------------------


def placing_of(children: list[Any]) -> Placing:
    placing = Placing()
    placing.watch(children)
    return placing


def jobs(*names: str, **changes: Any) -> list[Assignment]:
    return [job(name, "t", **changes) for name in names]


def test_jobs_are_spread_and_what_does_not_fit_comes_back() -> None:
    """One child would be full while another is idle; the cap would be exceeded."""
    children = paper(1, 2, 3)
    children[2].stage = Stage.ENDING
    children[0].begin(jobs("x", "y"))
    placing = placing_of(children)

    left_over = placing.start(jobs(*(f"j{i}" for i in range(8))))

    assert [len(child.ledger.running) for child in children] == [4, 4, 0]
    assert [job.id for job in left_over] == ["j6", "j7"]
    assert placing.free == 0


def test_a_suspect_waits_for_an_empty_child_and_has_it_alone() -> None:
    """The next death would not name the culprit."""
    children = paper(1, 2)
    children[0].begin(jobs("x"))
    children[1].begin(jobs("y", "z"))
    placing = placing_of(children)
    placing.suspect(jobs("bad"))

    assert placing.start(jobs("bad")) == []
    assert children[0].begun == ["x"]
    assert placing.free == 2, "the emptiest child takes nothing more"
    placing.start(jobs("q"))
    assert children[1].begun == ["y", "z", "q"]

    children[0].end("x")
    placing.start_held()
    assert children[0].begun == ["x", "bad"]
    assert placing.free == 1
    assert [job.id for job in placing.start(jobs("r", "s"))] == ["s"]

    children[0].end("bad")
    placing.start_held()
    assert placing.free == 4


def test_only_one_child_at_a_time_is_given_to_suspects() -> None:
    """After a death the whole pool would run one job a child."""
    children = paper(1, 2)
    placing = placing_of(children)

    placing.start(jobs("a", "b", "c", lost=2))

    assert [child.begun for child in children] == [["a"], []]
    assert placing.free == SLOTS
    assert [job.id for job in placing.take_held()] == ["b", "c"]


def test_a_job_that_was_lost_once_with_its_node_runs_among_others() -> None:
    """Hundreds of long jobs of a dead node would then run one by one."""
    children = paper(1)

    placing_of(children).start(jobs("a", "b", lost=1))

    assert children[0].begun == ["a", "b"]


def test_a_job_goes_to_a_child_that_can_run_it() -> None:
    """It would come back from the other one, again and again."""
    children = paper(1, 2)
    children[0].unable = frozenset({"t"})
    placing = placing_of(children)

    left_over = placing.start([*jobs(*"abcde"), job("x", "other")])

    assert [child.begun for child in children] == [["x"], list("abcd")]
    assert [job.id for job in left_over] == ["e"]
    assert placing.unable == {"t"}, "the one that can has no room"
    children[1].end("a")
    assert placing.unable == set()


def test_nothing_is_said_of_tasks_while_no_child_is_ready() -> None:
    """A pool whose children are all being replaced would break its node."""
    children = paper(1)
    children[0].unable = frozenset({"t"})
    children[0].stage = Stage.ENDING

    assert placing_of(children).unable == set()


def test_a_suspect_is_not_given_to_a_child_that_stands_still() -> None:
    """It would go to and fro between this node and the leader."""
    children = paper(1, 2)
    children[0].is_late = True
    children[1].begin(jobs(*"wxyz"))
    placing = placing_of(children)

    placing.start(jobs("a", lost=2))

    assert children[0].begun == []
    for name in "wxyz":
        children[1].end(name)
    placing.start_held()
    assert children[1].begun == [*"wxyz", "a"]


def test_when_the_suspects_child_goes_another_one_is_emptied() -> None:
    """Suspects would wait for a child that is gone."""
    children = paper(1, 2)
    children[1].begin(jobs("x"))
    placing = placing_of(children)
    placing.start(jobs("a", "b", lost=2))
    assert children[0].begun == ["a"]

    placing.watch(children[1:])
    placing.start_held()
    assert placing.free == 0
    children[1].end("x")
    placing.start_held()

    assert children[1].begun == ["x", "b"]
