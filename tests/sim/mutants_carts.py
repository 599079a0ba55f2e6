"""Planted faults of session jobs."""

from __future__ import annotations

from typing import Any

from exkiq.machine import session_jobs
from tests.sim.mutant import CUTS, DEATHS, Mutant, Parts


def _forgotten_state() -> Parts:
    go_on = session_jobs._go_on

    def without(store: Any, session_id: str, state: Any) -> None:
        go_on(store, session_id, state)
        step = store.session_jobs[session_id].step
        if step is not None:
            store.jobs[step.step_id].checkpoint = None

    return [(session_jobs, "_go_on", without)]


def _last_post_first() -> Parts:
    post = session_jobs._post

    def first(store: Any, session_id: str, turn: Any) -> None:
        post(store, session_id, turn)
        job = store.session_jobs[session_id]
        if job.mailbox:
            mailbox = (job.mailbox[-1], *job.mailbox[:-1])
            store.session_jobs[session_id] = job._replace(mailbox=mailbox)

    return [(session_jobs, "_post", first)]


def _posted_twice() -> Parts:
    return [(session_jobs, "_is_asked_again", lambda *_: False)]


def _unanswered_steps() -> Parts:
    def remove(store: Any, session_id: str, _: Any) -> None:
        for turn in store.session_jobs.pop(session_id).mailbox:
            del store.session_steps[turn.step_id]

    return [(session_jobs, "_remove", remove)]


def _kept_turn() -> Parts:
    return [(session_jobs, "ended", lambda *_: None)]


CART_MUTANTS: dict[str, Mutant] = {
    "forgotten-state": Mutant("a step does not get the state", "HA-07", _forgotten_state),
    "last-post-first": Mutant("steps are done out of turn", "HA-07", _last_post_first),
    "posted-twice": Mutant(
        "a step that is asked for again is done again", "H2", _posted_twice, DEATHS + CUTS
    ),
    "unanswered-steps": Mutant(
        "steps of a session job that is gone vanish", "H11", _unanswered_steps
    ),
    "kept-turn": Mutant(
        "after a step that failed or was cancelled nothing goes on", "H13", _kept_turn
    ),
}
