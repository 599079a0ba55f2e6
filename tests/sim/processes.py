"""Trials spread over the processor's cores, results in the order of the trials."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import connection, get_context, parent_process

from tests.sim.trial import Result, Trial, run

AHEAD = 4  # trials handed out for each process: a long one must not keep the others waiting


class Processes:
    """Runs trials in `jobs` processes, or in this one when it is one."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Processes:
        if self.jobs > 1:
            context = get_context("spawn")
            self._pool = ProcessPoolExecutor(self.jobs, context, initializer=_end_with_parent)
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def start(self, trial: Trial) -> Future[Result]:
        """Run one, some time."""
        if self._pool is not None:
            return _unheard(lambda pool=self._pool: pool.submit(run, trial))
        future: Future[Result] = Future()
        future.set_result(run(trial))
        return future

    def results(self, trials: Iterable[Trial]) -> Iterator[Result]:
        """Run all of them."""
        under_way: deque[Future[Result]] = deque()
        try:
            for trial in trials:
                under_way.append(self.start(trial))
                if len(under_way) >= AHEAD * self.jobs or self._pool is None:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def _unheard(submit: Callable[[], Future[Result]]) -> Future[Result]:
    """Processes that are started meanwhile never hear of Ctrl-C: it is ours to end them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return submit()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    parent = parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()
