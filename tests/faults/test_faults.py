"""A short run of the faults on real processes; scripts/faults runs minutes of them."""

from __future__ import annotations

from pathlib import Path

from tests.faults.trial import Terms, Trial

KINDS = ("kill-leader", "pause-leader", "cut-leader", "one-way", "reset", "kill-worker")


def test_promises_hold_under_real_faults(tmp_path: Path) -> None:
    """Six kinds of faults within three seconds: a job is lost, or two nodes run it at a time."""
    terms = Terms(2.5, KINDS, seed=5, rate=60.0, alone=1.0, pace=0.1, longest=0.3)
    trial = Trial(tmp_path, terms, lambda trial: None)
    report = trial.run()
    assert report.verdict.broken == []
    assert report.failures == []
    assert sum(report.faults.values()) >= len(KINDS) - 1, report.timeline
    assert report.acknowledged > 50
    assert report.history.log_ids is not None
    assert all(wire.carried for wire in trial.nodes.network.wires.values())
