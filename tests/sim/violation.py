"""What the simulator raises."""

from __future__ import annotations


class Violation(Exception):  # noqa: N818 - it is no error of the simulator
    """A promise was broken. `kind` is the check that saw it: H1 to H13, a rule of Raft, a crash."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind
