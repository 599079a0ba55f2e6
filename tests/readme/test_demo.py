"""The demo tells its story to the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "mail_demo" / "demo.py"


@pytest.mark.timeout(150)
def test_the_demo_delivers_every_mail():
    """The first thing a newcomer runs would fail, or lose a mail when the leader dies."""
    ran = subprocess.run(
        [sys.executable, DEMO, "--mails", "60"],
        capture_output=True,
        text=True,
        timeout=140,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    text = " ".join(ran.stdout.split())
    assert "mails enqueued │ 60" in text
    assert "delivered │ 60" in text
    assert "in the failed set: SMTPRecipientsRefused" in text
    assert "every mail arrived" in text
