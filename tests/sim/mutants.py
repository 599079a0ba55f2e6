"""Planted faults: one rule of the product switched off at run time, and whether it is noticed.

A mutant is found by a seed when the run breaks with it and does not without it. Each is
found by one of the seeds 0 to 19; a change of the product may need another schedule for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.sim.directed import directed
from tests.sim.mutant import Mutant
from tests.sim.mutants_carts import CART_MUTANTS
from tests.sim.mutants_jobs import JOB_MUTANTS
from tests.sim.mutants_members import MEMBER_MUTANTS
from tests.sim.mutants_raft import RAFT_MUTANTS
from tests.sim.options import drawn
from tests.sim.stage import NotStaged
from tests.sim.violation import Violation
from tests.sim.world import simulate

MUTANTS: dict[str, Mutant] = {
    **RAFT_MUTANTS,
    **MEMBER_MUTANTS,
    **JOB_MUTANTS,
    **CART_MUTANTS,
}


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The product with this fault, while it lasts."""
    parts = mutant.parts()
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in parts]
    for owner, name, part in parts:
        setattr(owner, name, part)
    try:
        yield
    finally:
        for owner, name, part in before:
            setattr(owner, name, part)


def finds(mutant: Mutant, seed: int, seconds: float = 8.0) -> str | None:
    """What a seed says of a mutant: the violation, None when it sees nothing."""

    def run() -> None:
        if mutant.schedule:
            directed(mutant.schedule, seed)
        else:
            faults, nodes = mutant.faults, mutant.nodes
            simulate(seed, drawn(seed, seconds=seconds, faults=faults, nodes=nodes))

    with planted(mutant):
        text = _violation(run)
    return None if text is None or _violation(run) is not None else text


def _violation(run: Callable[[], None]) -> str | None:
    try:
        run()
    except Violation as violation:
        return str(violation)
    except NotStaged:
        return None  # the schedule has shown nothing
    except Exception as error:
        return repr(error)
    return None
