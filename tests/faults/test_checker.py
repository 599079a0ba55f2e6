"""The judge of the fault runs: a good history passes, and each bad one is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import ledger
from tests.faults.checker import judge
from tests.faults.history import (
    OK,
    UNAVAILABLE,
    UNKNOWN,
    Cancel,
    Disturbance,
    History,
    NodeState,
    Run,
    Send,
)
from tests.faults.schedule import LASTS, plan


def good() -> History:
    """Four jobs of one producer, one of them redelivered and one delayed; one cancelled."""
    history = History(healed=20.0, drained=22.0)
    for number in range(4):
        name, at = f"j{number}", 1.0 + number
        history.sends[name] = Send(
            name, "line", at, at + 0.1, OK, retries=1, max_lost=1, line="line"
        )
        history.runs.append(Run(name, 10 + number, 1, 0, "n1", at + 0.2, at + 0.3))
        history.finals[name] = "succeeded"
    history.runs[3].end = None
    history.runs.append(Run("j3", 20, 1, 1, "n2", 7.0, 7.1))
    history.disturbances.append(Disturbance("kill-leader", ("n1",), 4.25, 5.0))
    history.sends["later"] = Send("later", "delayed", 1.0, 1.1, OK, due=3.0, retries=1)
    history.runs.append(Run("later", 15, 1, 0, "n3", 3.01, 3.02, is_failed=True))
    history.runs.append(Run("later", 16, 2, 0, "n3", 3.5, 3.6))
    history.sends["gone"] = Send("gone", "single", 1.0, 1.1, OK)
    history.cancels.append(Cancel("gone", 2.0, 2.1, OK, "ok"))
    history.sends["maybe"] = Send("maybe", "single", 5.0, 8.0, UNKNOWN)
    history.sends["not"] = Send("not", "single", 5.0, 8.0, UNAVAILABLE)
    history.finals |= {"later": "succeeded", "gone": "cancelled", "maybe": None, "not": None}
    history.nodes = {name: NodeState("n1", 50, "abc") for name in ("n1", "n2", "n3")}
    history.log_ids = {"j0", "j1", "j2", "j3", "later", "gone"}
    history.claims = {(run.id, run.fence): run.node for run in history.runs}
    return history


def lost(h: History) -> None:
    h.finals["j1"] = None


def refused_and_there(h: History) -> None:
    h.finals["not"] = "failed"


def refused_and_run(h: History) -> None:
    h.runs.append(Run("not", 30, 1, 0, "n1", 9.0, 9.1))
    h.claims = None


def phantom_run(h: History) -> None:
    h.runs.append(Run("ghost", 30, 1, 0, "n1", 9.0, 9.1))
    h.claims = None


def phantom_in_log(h: History) -> None:
    h.log_ids = {*(h.log_ids or ()), "ghost"}


def succeeded_without_a_run(h: History) -> None:
    h.runs = [run for run in h.runs if run.id != "j2"]


def succeeded_by_a_failed_run(h: History) -> None:
    h.runs[2].is_failed = True


def two_claims_at_a_time(h: History) -> None:
    h.runs.append(Run("j0", 30, 1, 1, "n2", 1.25, 1.4))
    h.claims = None
    h.disturbances = [Disturbance("kill-leader", ("n1",), 1.3, 5.0)]  # only after the second


def second_run_without_a_cause(h: History) -> None:
    h.disturbances[0].nodes = ("n2",)


def one_fence_twice(h: History) -> None:
    h.runs.append(Run("j0", 10, 1, 0, "n1", 1.5, 1.6))


def run_without_a_claim(h: History) -> None:
    h.claims = {key: node for key, node in (h.claims or {}).items() if key[0] != "j1"}


def run_on_another_node(h: History) -> None:
    h.claims = (h.claims or {}) | {("j1", 11): "n2"}


def retry_counted_backwards(h: History) -> None:
    h.runs[3].attempt = 2


def attempt_too_many(h: History) -> None:
    h.runs[-1].attempt = 3


def redelivered_for_ever(h: History) -> None:
    h.runs += [Run("j3", 30 + n, 1, 2 + n, "n1", 8.0 + n / 9, 8.1 + n / 9) for n in range(9)]
    h.disturbances[0].nodes = ("n1", "n2")
    h.claims = None


def early(h: History) -> None:
    h.runs[5].start = 2.9


def early_after_a_step_that_was_over(h: History) -> None:
    h.runs[5].start = 2.9
    h.disturbances.append(Disturbance("clock-step", ("n1",), 0.1, 0.9))


def out_of_order(h: History) -> None:
    h.runs[0].fence = 12
    h.runs[2].fence = 10
    h.claims = None


def cancelled_and_run(h: History) -> None:
    h.runs.append(Run("gone", 30, 1, 0, "n1", 9.0, 9.1))
    h.claims = None


def cancelled_and_succeeded(h: History) -> None:
    h.finals["gone"] = "succeeded"
    h.runs.append(Run("gone", 9, 1, 0, "n1", 2.0, 2.1))
    h.claims = None


def not_ended(h: History) -> None:
    h.finals["maybe"] = "queued"


def never_drained(h: History) -> None:
    h.drained = None


def drained_late(h: History) -> None:
    h.drained = h.healed + 61


def two_states(h: History) -> None:
    h.nodes["n2"].state_hash = "xyz"


def one_behind(h: History) -> None:
    h.nodes["n2"].applied = 49


def two_leaders(h: History) -> None:
    h.nodes["n2"].leader = "n2"


def log_of_another(h: History) -> None:
    h.log = ["H12 log: entry 7 of n2 is not that of n1"]


def ended_by_itself(h: History) -> None:
    h.stopped = ["n1, exit code 1"]


def traceback(h: History) -> None:
    h.tracebacks = ["n1: Traceback"]


BAD: list[tuple[Callable[[History], None], str]] = [
    (lost, "H1 lost"),
    (refused_and_there, "H1 refused"),
    (refused_and_run, "H1 refused"),
    (phantom_run, "H2 phantom"),
    (phantom_in_log, "H2 phantom"),
    (succeeded_without_a_run, "H4 end"),
    (succeeded_by_a_failed_run, "H4 end"),
    (two_claims_at_a_time, "H5 double claim"),
    (second_run_without_a_cause, "H5 double claim"),
    (one_fence_twice, "H5 double claim"),
    (run_without_a_claim, "H6 unclaimed"),
    (run_on_another_node, "H6 unclaimed"),
    (retry_counted_backwards, "H7 attempts"),
    (attempt_too_many, "H7 attempts"),
    (redelivered_for_ever, "H7 attempts"),
    (early, "H8 early"),
    (early_after_a_step_that_was_over, "H8 early"),
    (out_of_order, "H9 order"),
    (cancelled_and_run, "H4 cancelled"),
    (cancelled_and_succeeded, "H4 cancelled"),
    (not_ended, "H13 not ended"),
    (never_drained, "H13 not ended"),
    (drained_late, "H13 not ended"),
    (two_states, "H12 state"),
    (one_behind, "H13 behind"),
    (two_leaders, "H12 leader"),
    (log_of_another, "H12 log"),
    (ended_by_itself, "stopped"),
    (traceback, "traceback"),
]


def test_a_good_history_passes() -> None:
    """A judge that cries wolf would be switched off."""
    assert judge(good()).broken == []


@pytest.mark.parametrize(("spoil", "kind"), BAD, ids=lambda part: getattr(part, "__name__", part))
def test_a_bad_history_is_found(spoil: Callable[[History], None], kind: str) -> None:
    """A broken promise that no fault run would ever show."""
    history = good()
    spoil(history)
    assert history != good()
    assert set(judge(history).counts) == {kind}


def test_a_deleted_or_doubled_line_of_the_ledger_is_found() -> None:
    """A run that is missing, or one too many, goes unseen somewhere in the history."""
    whole = good()
    for number, run in enumerate(whole.runs):
        if run.id != "j3" and not run.is_failed:  # of those another run tells the same
            history = copy.deepcopy(whole)
            del history.runs[number]
            assert judge(history).broken
        history = copy.deepcopy(whole)
        history.runs.insert(number, copy.deepcopy(run))
        assert judge(history).broken


def test_what_is_done_twice_is_counted() -> None:
    """The report would say that nothing ran twice."""
    history = good()
    history.runs[3].end = 7.05
    figures = judge(history).figures
    assert figures["jobs_done_twice"] == figures["runs_overlapping"] == 1
    assert figures["worst_overlap_s"] == pytest.approx(0.05)


def test_the_ledger_is_read_as_the_jobs_wrote_it(tmp_path: Path) -> None:
    """Ends are put to the wrong starts, or runs without an end are dropped."""
    rows = [
        '["start", "a", 5, 1, 0, 1.0, 9.0, 77]',
        '["start", "b", 5, 1, 0, 1.1, 9.0, 77]',
        '["fail", "a", 5, 1, 0, 1.2, 9.0, 77]',
        '["start", "a", 6, 2, 0, 1.3, 9.0, 78]',
    ]
    ledger.path_of(tmp_path, "n1").write_text("\n".join(rows[:3]) + "\n")
    ledger.path_of(tmp_path, "n2").write_text(rows[3] + "\n")
    assert ledger.runs(tmp_path) == [
        Run("a", 5, 1, 0, "n1", 1.0, 1.2, is_failed=True),
        Run("b", 5, 1, 0, "n1", 1.1),
        Run("a", 6, 2, 0, "n2", 1.3),
    ]
    assert sorted(ledger.Tail(tmp_path).starts()) == [("a", 1.0), ("a", 1.3), ("b", 1.1)]


def test_a_seed_repeats_its_schedule() -> None:
    """A failure that cannot be repeated."""
    first = plan(7, 120.0, list(LASTS))
    assert first == plan(7, 120.0, list(LASTS))
    assert first != plan(8, 120.0, list(LASTS))
    assert {fault.kind for fault in first} == set(LASTS)
    assert len(first) >= 60
