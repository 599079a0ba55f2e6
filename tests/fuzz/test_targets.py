"""The targets of `scripts/fuzz`, on a few inputs each; hours of it are for the script."""

from __future__ import annotations

import random

import pytest

from exkiq.raft.journal import Journal
from tests.fuzz import targets
from tests.fuzz.targets import SPEC, TARGETS, Broken, seeds

ROUNDS = {"journal": 25, "operations": 60}


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A little of everything that happens to bytes."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(changed) + 1)
        match chance.randrange(4):
            case 0 if place < len(changed):
                changed[place] ^= 1 << chance.randrange(8)
            case 1:
                del changed[place : place + chance.randrange(1, 9)]
            case 2:
                changed[place:place] = chance.randbytes(chance.randrange(1, 9))
            case _:
                changed[place : place + 4] = chance.choice((b"\xff" * 4, bytes(4), b"\xdd\xff"))
    return bytes(changed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_comes_from_outside_breaks_nothing(name):
    """A peer, a stranger or a disk could stop a node, or make replicas disagree."""
    chance = random.Random(name)
    target, first = TARGETS[name], seeds(name)
    for data in (b"", b"\x00", b"\xff" * 64, *first):
        target(data)
    for _ in range(ROUNDS.get(name, 400)):
        target(mutated(chance.choice(first), chance))


def test_the_seeds_are_well_formed(monkeypatch):
    """Fuzzing would begin at noise, and never come far."""
    whole = seeds("snapshot")[0]
    restored = targets.snapshot_file.decode(targets._with_checksums(whole), "here")
    assert sorted(restored.machine.jobs)[:3] == ["a", "b", "c"]
    for op in seeds("operations")[:-1]:
        assert targets.check_op(op) is None
    monkeypatch.setattr(Journal, "__getitem__", lambda self, item: [(b"wrong", 4, 1)])
    with pytest.raises(Broken, match="entry 4"):
        targets.journal(seeds("journal")[0])
    assert SPEC.queue == "mail"
