"""The jobs of one test, kept on a clock that begins with the year 2030."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

import pytest

from exkiq.testing import Fake, ManualClock, fake
from tests.testing.shop import ran

START = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture
def kept() -> Iterator[Fake]:
    """As the documentation says a fixture is written."""
    ran.clear()
    with fake(ManualClock(START)) as jobs:
        yield jobs
