"""The types that users' editors and checkers see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_users_code_is_checked_as_they_expect() -> None:
    """A wrong argument of an enqueue passes the type checker, or a right one does not."""
    flags = ("--strict", "--warn-unused-ignores", "--follow-imports=silent")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *flags, "tests/api/typed_usage.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout
