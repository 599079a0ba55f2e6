"""`exkiq.pool`: slots that serve one queue alone, and what its workers are made from."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from exkiq.config.plugins import load_class, shown
from exkiq.declarations import SECONDS_MAX, SLOTS_MAX, PoolTerms
from exkiq.declared import DeclaredPool, declared
from exkiq.options import Seconds, check_duration, check_queue_name
from exkiq.worker import Worker


def pool(
    queue: str,
    worker: type[Worker] | str,
    init_args: Sequence[Any] = (),
    slots: int = 10,
    init_retry_seconds: Seconds | None = None,
    shutdown: Seconds = 10.0,
) -> None:
    """Declare that a node keeps slots for one queue, and how their worker is made.

        exkiq.pool("my_pool", Riak, init_args=("127.0.0.1", 8087), slots=10)

    It stands in a module of the APP, beside the worker. The slots are taken out of the node's
    concurrency: they run jobs of this queue only, and the queue has no others.

    Shapes: `worker` is a class, or "package.module:Class"; `init_args` are those of its `init`.
    Units:  init_retry_seconds, 5 unless the class says other, is the wait after an `init` that
            failed; shutdown is what running jobs have to end when the node stops; both in
            seconds, or a timedelta.
    Errors: TypeError for an unknown option, or arguments that `init` does not take; ValueError
            for a bad value, naming it; AlreadyStarted for a second pool of the queue that differs.
    """
    name = check_queue_name(queue)
    made_from = load_class("worker", worker, Worker)
    if isinstance(slots, bool) or not isinstance(slots, int) or not 1 <= slots <= SLOTS_MAX:
        raise ValueError(f"slots must be an int from 1 to {SLOTS_MAX}, not {shown(slots)}")
    if not isinstance(init_args, list | tuple):
        raise TypeError(f"init_args must be a tuple or a list, not {shown(init_args)}")
    most_ms = SECONDS_MAX * 1000
    _check_init_args(made_from, init_args)
    terms = PoolTerms(
        f"{made_from.__module__}:{made_from.__qualname__}",
        slots,
        made_from.exkiq_options.init_retry_ms
        if init_retry_seconds is None
        else check_duration("init_retry_seconds", init_retry_seconds, most_ms),
        check_duration("shutdown", shutdown, most_ms),
    )
    declared.pool(name, DeclaredPool(made_from, tuple(init_args), terms))


def _check_init_args(worker: type[Worker], init_args: Sequence[Any]) -> None:
    """TypeError for arguments that the worker's `init` does not take: else each slot would say."""
    init = inspect.getattr_static(worker, "init", None)
    if init is None and init_args:
        raise TypeError(f"init_args: {worker.__qualname__} has no init to take {shown(init_args)}")
    if not inspect.isfunction(init):
        return
    try:
        inspect.signature(init).bind(worker, *init_args)
    except TypeError as error:
        raise TypeError(
            f"init_args: {worker.__qualname__}.init does not take {shown(init_args)}: {error}"
        ) from None
