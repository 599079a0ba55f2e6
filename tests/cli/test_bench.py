"""`exkiq bench` measures a cluster of its own and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from exkiq.cli.bench_figures import STEPS, Figure


def test_a_figure_is_a_rate_and_its_percentiles():
    """The one thing the bench is for would be wrong."""
    figure = Figure(200, 4.0, [float(ms) for ms in range(200, 0, -1)])
    assert figure.rate == 50.0
    assert figure.percentile_ms(50) == 101.0
    assert figure.percentile_ms(99) == 199.0
    assert Figure(1, 0.0).rate == 0.0
    assert Figure(1, 1.0).percentile_ms(50) is None
    assert Figure(1, 1.0, [7.0]).percentile_ms(99) == 7.0


@pytest.mark.timeout(90)
def test_bench_prints_every_figure(tmp_path):
    """A change could not be measured, or a bench would leave nodes and data behind."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "exkiq", "bench", "--json", "--folder", str(tmp_path)),
            *("--nodes", "1", "--seconds", "0.2", "--jobs", "500"),
        ],
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    assert (told["nodes"], told["durable"]) == (1, True)
    assert [figure["what"] for figure in told["figures"]] == list(STEPS)
    assert all(figure["per_second"] > 0 for figure in told["figures"])
    assert list(tmp_path.iterdir()) == []
    assert not processes_with(str(tmp_path))


def processes_with(argument: str) -> list[str]:
    """Command lines that contain it; none where there is no /proc."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ended while we looked
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [line] if argument in line else []
    return found
