"""Schedules that chance seldom hits, each made on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.sim import directed_deaths as deaths
from tests.sim import directed_elections as elections
from tests.sim import directed_jobs as jobs
from tests.sim import directed_snapshots as snapshots
from tests.sim.options import Options
from tests.sim.pool import Habits
from tests.sim.stage import CALM
from tests.sim.world import Outcome, World, world

Schedule = Callable[[World], Outcome]

FIVE = replace(CALM, nodes=5)
COMPACTING = replace(CALM, compact=60)
QUICK = replace(CALM, habits=Habits(is_slow=0.0, hangs=0.0, fails=0.0, crashes=0.0))
SLOW = Habits(seconds=2.0, haunts=1.0)

DIRECTED: dict[str, tuple[Schedule, Options]] = {
    "kill-after-rename": (deaths.kill_after_rename, COMPACTING),
    "kill-in-installation": (deaths.kill_in_installation, COMPACTING),
    "kill-before-commit": (deaths.kill_before_commit, CALM),
    "two-heartbeats": (deaths.two_heartbeats_outstanding, CALM),
    "answer-across-elections": (deaths.answer_across_elections, FIVE),
    "old-tail-after-a-cut": (deaths.old_tail_after_a_cut, CALM),
    "vote-before-a-restart": (elections.vote_before_a_restart, CALM),
    "votes-of-strangers": (elections.votes_of_strangers, FIVE),
    "one-vote-again": (elections.one_vote_again, FIVE),
    "late-answers": (elections.late_answers, FIVE),
    "newer-term": (elections.newer_term, CALM),
    "returning-follower": (elections.returning_follower, CALM),
    "flood-of-refusals": (elections.flood_of_refusals, CALM),
    "long-divergent-tail": (elections.long_divergent_tail, CALM),
    "snapshot-to-a-former-leader": (snapshots.snapshot_to_a_former_leader, COMPACTING),
    "snapshot-that-fails-to-load": (snapshots.snapshot_that_fails_to_load, COMPACTING),
    "snapshot-damaged-on-its-way": (snapshots.snapshot_damaged_on_its_way, COMPACTING),
    "snapshot-sent-again": (snapshots.snapshot_sent_again, COMPACTING),
    "snapshot-to-a-slow-peer": (snapshots.snapshot_to_a_slow_peer, COMPACTING),
    "empty-disk": (snapshots.empty_disk, CALM),
    "flipped-bit": (snapshots.flipped_bit, CALM),
    "two-changes": (snapshots.two_changes, FIVE),
    "members-after-a-restart": (snapshots.members_after_a_restart, FIVE),
    "late-reports": (jobs.late_reports, replace(CALM, habits=SLOW)),
    "claim-for-a-former-session": (jobs.claim_for_a_former_session, CALM),
    "orders-of-a-former-leader": (jobs.orders_of_a_former_leader, CALM),
    "claims-in-a-snapshot": (jobs.claims_in_a_snapshot, replace(QUICK, compact=60)),
    "due-in-an-election": (jobs.due_in_an_election, QUICK),
    "clock-set-right": (jobs.clock_set_right, QUICK),
    "deaf-leader": (jobs.deaf_leader, QUICK),
    "node-that-stays-away": (jobs.node_that_stays_away, QUICK),
    "orderly-stop": (jobs.orderly_stop, QUICK),
    "claims-of-a-stopping-node": (jobs.claims_of_a_stopping_node, QUICK),
}


def directed(name: str, seed: int) -> Outcome:
    """One directed schedule. Raises Violation, or NotStaged when it has shown nothing."""
    schedule, options = DIRECTED[name]
    with world(seed, options) as made:
        return schedule(made)
