"""For the test suites of those who use exkiq: jobs without a node, and without waiting.

    fake      jobs are kept; the test asserts what was enqueued, and has them run
    inline    jobs run at once, where they are enqueued
    contract  what a queue backend of one's own has to do, as checks

The first two are context managers, and fit into a fixture as they are:

    @pytest.fixture
    def jobs():
        with exkiq.testing.fake() as fake:
            yield fake

Nothing is left behind: no thread, no connection, no file.
"""

from exkiq.testing.clock import ManualClock
from exkiq.testing.contract import QueueContract
from exkiq.testing.kept import Fake
from exkiq.testing.modes import fake, inline

__all__ = ["fake", "inline", "Fake", "ManualClock", "QueueContract"]
