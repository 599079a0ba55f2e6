"""How many seeds each planted fault needs until it is found."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field

from tests.sim.processes import Processes
from tests.sim.trial import Result, Trial


@dataclass
class Quarry:
    """One planted fault, and how far the seeds are."""

    mutant: str
    seeds: range
    next: int = 0
    open: int = 0
    tried: int = 0
    seconds: float = 0.0
    found: list[Result] = field(default_factory=list)

    @property
    def is_wanted(self) -> bool:
        return not self.found and self.next < len(self.seeds)

    @property
    def is_over(self) -> bool:
        return not self.is_wanted and not self.open

    @property
    def needed(self) -> int:
        """Seeds until one found it, or all that were tried in vain."""
        return self.seeds.index(self.found[0].trial.seed) + 1 if self.found else self.tried

    def take(self) -> Trial:
        trial = Trial(self.seeds[self.next], mutant=self.mutant)
        self.next += 1
        self.open += 1
        return trial

    def tell(self, result: Result) -> None:
        self.open -= 1
        self.tried += 1
        self.seconds += result.seconds
        if result.kind:
            self.found.append(result)
            self.found.sort(key=lambda one: one.trial.seed)


def hunt(mutants: list[str], seeds: range, processes: Processes) -> Iterator[Quarry]:
    """Each planted fault when its first seed, or none of them, has found it."""
    quarries = [Quarry(mutant, seeds) for mutant in mutants]
    under_way: dict[Future[Result], Quarry] = {}
    while True:
        while len(under_way) <= processes.jobs and any(q.is_wanted for q in quarries):
            # the hard ones share what the others leave over
            quarry = min((q for q in quarries if q.is_wanted), key=lambda q: q.open)
            under_way[processes.start(quarry.take())] = quarry
        if not under_way:
            return
        done, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in done:
            quarry = under_way.pop(future)
            quarry.tell(future.result())
            if quarry.is_over:
                yield quarry
