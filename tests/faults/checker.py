"""The judge: a history in, broken promises out. Pure; it knows nothing of the product.

H1  nothing acknowledged is lost, nothing refused is there      H7  attempts within bounds
H2  nothing runs or is there that nobody asked for              H8  nothing starts early
H4  one end for each job, nothing after a cancellation          H9  one producer's order is kept
H5  one claim at a time: a second run needs a cause             H12 all nodes agree
H6  each run within a claim of the log                          H13 everything ends
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tests.faults.history import ENDED, OK, REFUSED, UNAVAILABLE, History, Run

SKEW_S = 0.05
AFTERMATH_S = 10.0  # a node may learn this long after a fault what it missed
DRAIN_S_MAX = 60.0
TOLD_MAX = 20  # of each kind

Wrong = Iterator[tuple[str, str]]


@dataclass
class Verdict:
    """`broken` is empty when every promise was kept."""

    broken: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    figures: dict[str, float] = field(default_factory=dict)


def judge(history: History) -> Verdict:
    verdict = Verdict()
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in history.runs:
        runs[run.id].append(run)
    for check in (_kept, _phantoms, _ends, _cancelled, _claims, _attempts, _early, _order):
        for kind, text in check(history, runs):
            _tell(verdict, kind, text)
    for kind, text in _agreement(history):
        _tell(verdict, kind, text)
    _count(history, runs, verdict)
    return verdict


def _tell(verdict: Verdict, kind: str, text: str) -> None:
    verdict.counts[kind] += 1
    if verdict.counts[kind] <= TOLD_MAX:
        verdict.broken.append(f"{kind}: {text}")


# ---- H1, H2 ----------------------------------------------------------------------------------


def _kept(history: History, runs: dict[str, list[Run]]) -> Wrong:
    # of cancelled jobs the last ones are listed; those before them are judged by the log
    cancelled = {each.id for each in history.cancels if each.answer in ("", "ok")}
    for send in history.sends.values():
        final = history.finals.get(send.id)
        if send.outcome == OK and final is None and send.id not in cancelled:
            yield "H1 lost", f"{send.id} was acknowledged and is not there"
        if send.outcome in (UNAVAILABLE, REFUSED) and (final is not None or send.id in runs):
            yield "H1 refused", f"{send.id} was refused and is there: {final}"


def _phantoms(history: History, runs: dict[str, list[Run]]) -> Wrong:
    for job_id in runs:
        if job_id not in history.sends:
            yield "H2 phantom", f"{job_id} ran, nobody asked for it"
    for job_id in history.log_ids or ():
        if job_id not in history.sends:
            yield "H2 phantom", f"{job_id} is in the log, nobody asked for it"


# ---- H4 --------------------------------------------------------------------------------------


def _ends(history: History, runs: dict[str, list[Run]]) -> Wrong:
    for job_id, state in history.finals.items():
        mine = runs.get(job_id, [])
        whole = [run for run in mine if run.end is not None and not run.is_failed]
        if state == "succeeded" and not whole:
            yield "H4 end", f"{job_id} succeeded without a run that ended well"
        if state is not None and state not in ENDED:
            yield "H13 not ended", f"{job_id} is {state}"


def _cancelled(history: History, runs: dict[str, list[Run]]) -> Wrong:
    for cancel in history.cancels:
        if cancel.outcome != OK or cancel.answer != "ok":
            continue
        final = history.finals.get(cancel.id)
        if final is not None and final != "cancelled":
            yield "H4 cancelled", f"{cancel.id} was cancelled and {final}"
        if any(run.start > cancel.answered + SKEW_S for run in runs.get(cancel.id, ())):
            yield "H4 cancelled", f"{cancel.id} started after it was cancelled"


# ---- H5, H6, H7 ------------------------------------------------------------------------------


def _claims(history: History, runs: dict[str, list[Run]]) -> Wrong:
    for job_id, mine in runs.items():
        by_fence = sorted(mine, key=lambda run: run.fence)
        for former, later in pairwise(by_fence):
            if former.fence == later.fence:
                yield "H5 double claim", f"{job_id} ran twice under fence {former.fence}"
            elif not _may_follow(history, former, later):
                yield (
                    "H5 double claim",
                    f"{job_id} ran on {former.node} under {former.fence} and on {later.node} "
                    f"under {later.fence}, and nothing had happened to {former.node}",
                )
        for run in mine:
            if history.claims is not None and history.claims.get((job_id, run.fence)) != run.node:
                yield "H6 unclaimed", f"{job_id} ran on {run.node} under fence {run.fence}"


def _may_follow(history: History, former: Run, later: Run) -> bool:
    """Whether a later claim is explained: by a failure, or by a fault that hit the former run."""
    has_failed = former.is_failed and former.end is not None and former.end <= later.start
    if has_failed and later.attempt > former.attempt:
        return True
    return any(
        former.node in each.nodes
        and each.begin <= later.start
        and each.end + AFTERMATH_S >= former.start
        for each in history.disturbances
    )


def _attempts(history: History, runs: dict[str, list[Run]]) -> Wrong:
    for job_id, mine in runs.items():
        send = history.sends.get(job_id)
        if send is None:
            continue
        if max(run.attempt for run in mine) > 1 + send.retries:
            yield "H7 attempts", f"{job_id} had an attempt beyond its {send.retries} retries"
        handed_back = sum(each.kind == "rolling-stop" for each in history.disturbances)
        if len(mine) > 1 + send.retries + send.max_lost + handed_back:
            yield "H7 attempts", f"{job_id} ran {len(mine)} times"
        numbers = [run.attempt for run in sorted(mine, key=lambda run: run.fence)]
        if numbers != sorted(numbers):
            yield "H7 attempts", f"the attempts of {job_id} count {numbers}"


# ---- H8, H9 ----------------------------------------------------------------------------------


def _early(history: History, runs: dict[str, list[Run]]) -> Wrong:
    """Delays are kept by the log's clock, which a wall clock that is set forward takes along."""
    steps = [each for each in history.disturbances if each.kind == "clock-step"]
    for send in history.sends.values():
        for run in runs.get(send.id, ()):
            if send.due is None or run.start >= send.due - SKEW_S:
                continue
            began = [each for each in steps if each.begin <= run.start]
            if send.is_absolute:
                is_excused = bool(began)
            else:
                is_excused = any(each.end >= send.invoked for each in began)
            if not is_excused:
                yield "H8 early", f"{send.id} started {send.due - run.start:.3f} s too early"


def _order(history: History, runs: dict[str, list[Run]]) -> Wrong:
    """A producer that waits for each acknowledgement sees its jobs claimed in that order."""
    last: dict[str, tuple[int, str]] = {}
    for send in sorted(history.sends.values(), key=lambda send: send.invoked):
        if not send.line or send.outcome != OK or send.id not in runs:
            continue
        first = min(runs[send.id], key=lambda run: run.fence)
        is_first_claim = first.attempt == 1 and first.lost == 0
        if not is_first_claim or _was_handed_back(history, send.answered, first):
            continue
        fence, before = last.get(send.line, (0, ""))
        if first.fence < fence:
            yield "H9 order", f"{send.id} was claimed before {before}, which was sent earlier"
        last[send.line] = max((fence, before), (first.fence, send.id))


def _was_handed_back(history: History, answered: float, first: Run) -> bool:
    """A drain may have given an earlier claim back before the job could write down its start."""
    return any(
        each.kind == "rolling-stop" and each.begin <= first.start and each.end >= answered
        for each in history.disturbances
    )


# ---- H12, H13 --------------------------------------------------------------------------------


def _agreement(history: History) -> Wrong:
    by_index: dict[int, set[str]] = defaultdict(set)
    for state in history.nodes.values():
        by_index[state.applied].add(state.state_hash)
    if len(by_index) > 1:
        yield "H13 behind", f"the nodes have applied {sorted(by_index)}"
    if any(len(hashes) > 1 for hashes in by_index.values()):
        yield "H12 state", f"{len(history.nodes)} nodes, several states"
    leaders = {state.leader for state in history.nodes.values()}
    if len(leaders) > 1 or None in leaders:
        yield "H12 leader", f"the nodes name as leader {sorted(map(str, leaders))}"
    if history.drained is None or history.drained - history.healed > DRAIN_S_MAX:
        yield "H13 not ended", f"not all jobs had ended {DRAIN_S_MAX:g} s after the heal"
    for text in history.log:
        kind, _, rest = text.partition(": ")
        yield kind, rest
    for text in history.stopped:
        yield "stopped", f"ended by itself: {text}"
    for text in history.tracebacks:
        yield "traceback", text


# ---- what is told but is no fault --------------------------------------------------------------


def _count(history: History, runs: dict[str, list[Run]], verdict: Verdict) -> None:
    figures = verdict.figures
    done_twice, overlaps = 0, []
    for mine in runs.values():
        whole = [run for run in mine if run.end is not None and not run.is_failed]
        done_twice += len(whole) > 1
        by_start = sorted(mine, key=lambda run: run.start)
        for former, later in pairwise(by_start):
            if former.end is not None and former.end > later.start:
                overlaps.append(min(former.end, later.end or former.end) - later.start)
    figures["runs"] = len(history.runs)
    figures["jobs_done_twice"] = done_twice
    figures["runs_overlapping"] = len(overlaps)
    figures["worst_overlap_s"] = round(max(overlaps, default=0.0), 3)
    late = sorted(
        min(run.start for run in runs[send.id]) - send.due
        for send in history.sends.values()
        if send.due is not None and send.id in runs
    )
    if late:
        figures["late_p50_s"] = round(late[len(late) // 2], 3)
        figures["late_max_s"] = round(late[-1], 3)
    if history.drained is not None:
        figures["drained_s"] = round(history.drained - history.healed, 2)
