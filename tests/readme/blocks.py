"""The blocks of the README, each with the note above it that says how it is tested."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"

BLOCK = re.compile(
    r"(?:^<!-- test: (?P<way>\w+)(?: (?P<argument>\S+))? -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block. `way` is how it is tested, empty when nothing says so."""

    line: int
    language: str
    way: str
    argument: str
    text: str

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block that are commands, without their comments."""
        lines = (line.partition(" #")[0].strip() for line in self.text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    @property
    def expected(self) -> list[str]:
        """What a Python block prints, as the comments behind its prints say."""
        lines = (line for line in self.text.splitlines() if "print(" in line)
        return [line.partition("  # ")[2] for line in lines]


def blocks_of(text: str) -> list[Block]:
    """All fenced blocks in their order."""
    return [
        Block(
            line=text.count("\n", 0, found.start("text")),
            language=found["language"],
            way=found["way"] or "",
            argument=found["argument"] or "",
            text=found["text"],
        )
        for found in BLOCK.finditer(text)
    ]


def readme_blocks() -> list[Block]:
    return blocks_of(README.read_text())
