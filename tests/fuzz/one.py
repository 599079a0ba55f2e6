"""One target in a process of its own, with the code that reads its bytes watched for coverage."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

WATCHED = [
    "exkiq.wire",
    "exkiq.machine",
    "exkiq.discovery.mdns",
    "exkiq.raft.messages",
    "exkiq.raft.membership",
    "exkiq.raft.journal",
    "exkiq.raft.journal_file",
    "exkiq.raft.high_water",
    "exkiq.raft.snapshot_file",
]

with atheris.instrument_imports(include=WATCHED):
    from tests.fuzz.targets import BYTES_MAX, BYTES_MAX_ELSE, TARGETS, seeds

INPUT_SECONDS_MAX = 10
MEMORY_MB_MAX = 1_024


def main(name: str, folder: Path, seconds: float) -> None:
    """Fuzz until the time is over or something is found; does not return."""
    corpus = folder / "inputs"
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = {
        "max_total_time": max(1, int(seconds)),
        "max_len": BYTES_MAX.get(name, BYTES_MAX_ELSE),
        "timeout": INPUT_SECONDS_MAX,
        "rss_limit_mb": MEMORY_MB_MAX,
        "artifact_prefix": f"{folder}/",
        "print_final_stats": 1,
    }
    words = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([name, *words, str(corpus)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
