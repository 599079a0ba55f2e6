"""What an APP declares of its queues and pools: checked, kept once, told to the node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import exkiq
from exkiq import Worker, errors
from exkiq.declarations import Declarations, PoolTerms, QueueTerms
from exkiq.declared import declared
from exkiq.dispatchers import LRU, LRUNode
from exkiq.failure_modes import Abandon, ExponentialRetry, Move, Requeue, Retry
from exkiq.queues.backend import Queue
from exkiq.success_modes import Log
from tests.api.api_app import Add, Nothing, Riak


class MyQueue(Queue):
    kind = "mine"

    def capabilities(self) -> Any: ...
    def enqueue(self, jobs: Any) -> Any: ...
    def reserve(self, limit: int) -> Any: ...
    def ack(self, job: Any, value: Any = None) -> Any: ...
    def nack(self, job: Any, decision: Any, error: Any) -> Any: ...
    def cancel(self, job_id: str) -> Any: ...
    def jobs(self, state: Any = None, where: Any = None) -> Any: ...
    def stats(self) -> Any: ...


pytestmark = pytest.mark.usefixtures("unopened")


@pytest.fixture(autouse=True)
def _nothing_declared() -> Iterator[None]:
    before = declared.queues, declared.pools
    declared.forget()
    yield
    declared.queues, declared.pools = before  # an APP that is imported once stays declared


def test_without_options_it_is_a_handle_and_nothing_is_declared() -> None:
    """To look at a queue would declare it on every node."""
    assert exkiq.queue("emails").name == "emails"
    assert declared.told() == Declarations()


def test_with_options_it_is_declared_and_the_handle_comes_all_the_same() -> None:
    """What was said of a queue would not reach the nodes."""
    handle = exkiq.queue(
        "emails",
        weight=3,
        paused=True,
        dispatcher=LRU,
        failure_mode=(Retry, {"times": 2}),
        success_mode="exkiq.success_modes:Log",
    )
    assert handle.name == "emails"
    assert declared.told().queues == {
        "emails": QueueTerms(
            weight=3,
            is_paused=True,
            dispatcher=["exkiq.dispatchers.lru:LRU", []],
            failure_mode="Retry(times=2, delay=0, finally_=None, fun=None)",
            success_mode="Log()",
        )
    }
    assert declared.failure_mode("emails") == Retry(times=2)
    assert declared.success_mode("emails") == Log()
    assert declared.failure_mode("other") is declared.success_mode("other") is None


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"colour": "red"}, TypeError, "colour"),
        ({"weight": 0}, ValueError, "weight"),
        ({"weight": True}, ValueError, "weight"),
        ({"weight": "3"}, ValueError, "weight"),
        ({"paused": 1}, ValueError, "paused"),
        ({"failure_mode": "Retry"}, ValueError, "failure_mode"),
        ({"failure_mode": Retry(2).decide}, ValueError, "failure_mode"),
        ({"failure_mode": (Retry, (0,))}, ValueError, "failure_mode"),
        ({"failure_mode": Move("emails")}, ValueError, "failure_mode"),
        ({"failure_mode": Retry(finally_=Move("emails"))}, ValueError, "failure_mode"),
        ({"success_mode": Abandon()}, ValueError, "success_mode"),
        ({"dispatcher": Log()}, ValueError, "dispatcher"),
        ({"backend": "nowhere:Queue"}, ValueError, "backend"),
        ({"backend": 3}, ValueError, "backend"),
        ({"weight": 2, "backend": dict}, ValueError, "backend"),
        ({"weight": 2, "backend": MyQueue}, errors.UnsupportedOperation, "backend.*emails"),
    ],
)
def test_a_bad_option_is_named_and_nothing_is_kept(
    options: Any, error: type[Exception], named: str
) -> None:
    """Half a declaration would stay behind, or the mistake show when the first job fails."""
    exkiq.queue("kept", weight=2)
    before = declared.told()
    with pytest.raises(error, match=named):
        exkiq.queue("emails", **options)
    assert declared.told() == before


def test_declarations_are_bounded() -> None:
    """A loop that declares would make an operation that no log takes."""
    for number in range(1_000):
        declared.queue(f"q{number}", {"weight": 2})
    with pytest.raises(ValueError, match="1000 are declared"):
        exkiq.queue("one more", weight=2)
    exkiq.queue("q7", weight=2)


def test_a_bad_name_declares_nothing() -> None:
    """A queue would be declared that no job can go to."""
    with pytest.raises(ValueError, match="running"):
        exkiq.queue("running", weight=2)
    assert declared.told() == Declarations()


def test_the_same_again_is_fine_and_something_else_is_not() -> None:
    """A module imported twice would be refused; or the one imported last would win."""
    for _ in range(2):
        exkiq.queue("emails", weight=3, failure_mode=Retry(2), dispatcher=LRUNode())
        exkiq.pool("emails", Add, slots=2)
    with pytest.raises(errors.AlreadyStarted, match=r"Retry\(times=2.*Abandon\(\)"):
        exkiq.queue("emails", weight=3, failure_mode=Abandon(), dispatcher=LRUNode())
    with pytest.raises(errors.AlreadyStarted, match=r"weight=3.*weight=4"):
        exkiq.queue("emails", weight=4, failure_mode=Retry(2), dispatcher=LRUNode())
    exkiq.queue("fun", failure_mode=Retry(fun=lambda job, error, n: n))
    with pytest.raises(errors.AlreadyStarted):
        exkiq.queue("fun", failure_mode=Retry(fun=lambda job, error, n: n + 1))
    with pytest.raises(errors.AlreadyStarted, match=r"slots=2.*slots=3"):
        exkiq.pool("emails", Add, slots=3)
    with pytest.raises(errors.AlreadyStarted, match=r"Add.*Riak"):
        exkiq.pool("emails", Riak, slots=2)
    assert (declared.told().queues["emails"].weight, declared.told().slots) == (3, {"emails": 2})


# --- pools -----------------------------------------------------------------------------------


def test_a_pool_has_defaults_and_its_worker_is_found_again() -> None:
    """`init` would be called without its arguments."""
    exkiq.pool("my_pool", Riak, init_args=["127.0.0.1", 8087])
    exkiq.pool("second", "tests.api.api_app:Riak", ("10.0.0.1", 1), slots=3, shutdown=1.5)
    assert declared.told().pools == {
        "my_pool": PoolTerms("tests.api.api_app:Riak", 10, 5_000, 10_000),
        "second": PoolTerms("tests.api.api_app:Riak", 3, 5_000, 1_500),
    }
    for queue, ip in (("my_pool", "127.0.0.1"), ("second", "10.0.0.1"), ("else", "127.0.0.1")):
        found = declared.pool_of(Riak, queue)
        assert found is not None
        assert found.init_args[0] == ip
    assert declared.pool_of(Add, "my_pool") is None


def test_the_wait_after_a_failed_init_is_the_pools_before_the_classes() -> None:
    """A pool could not be more patient than its class."""

    class Slow(Worker, init_retry_seconds=30): ...

    exkiq.pool("one", Slow)
    exkiq.pool("two", Slow, init_retry_seconds=1)
    waits = {queue: pool.init_retry_ms for queue, pool in declared.told().pools.items()}
    assert waits == {"one": 30_000, "two": 1_000}


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"colour": 3}, TypeError, "colour"),
        ({"worker": Worker}, ValueError, "worker"),
        ({"worker": dict}, ValueError, "worker"),
        ({"worker": "tests.api.api_app:Gone"}, ValueError, "worker"),
        ({"slots": 0}, ValueError, "slots"),
        ({"slots": True}, ValueError, "slots"),
        ({"slots": 10_001}, ValueError, "slots"),
        ({"init_args": "host"}, TypeError, "init_args"),
        ({"init_args": ("host",)}, TypeError, "init_args: Nothing has no init"),
        ({"worker": Riak, "init_args": (1, 2, 3)}, TypeError, "Riak.init does not take"),
        ({"init_retry_seconds": -1}, ValueError, "init_retry_seconds"),
        ({"shutdown": float("inf")}, ValueError, "shutdown"),
        ({"queue": "running"}, ValueError, "running"),
    ],
)
def test_a_bad_option_of_a_pool_is_named(options: Any, error: type[Exception], named: str) -> None:
    """The mistake would show on the node, long after."""
    with pytest.raises(error, match=named):
        exkiq.pool(**{"queue": "q", "worker": Nothing, **options})
    assert declared.told() == Declarations()


def test_pools_fit_into_the_slots_of_the_node() -> None:
    """A node would promise more than it has; or one without slots would not start."""
    told = Declarations(pools={"a": PoolTerms(slots=6), "b": PoolTerms(slots=5)})
    with pytest.raises(errors.ConfigError, match=r"11 slots \('a' 6, 'b' 5\) and the node has 10"):
        told.check_slots(10)
    told.check_slots(11)
    told.check_slots(0)


# --- for the node ----------------------------------------------------------------------------


def test_the_settings_come_before_the_declarations() -> None:
    """An operator could not undo what the APP says."""
    exkiq.queue("emails", weight=3, paused=True, failure_mode=Abandon())
    exkiq.queue("other", weight=2)
    table = {
        "emails": {"paused": False, "failure_mode": ["exkiq.failure_modes:Retry", {"times": 7}]},
        "new": {"weight": 4, "dispatcher": ["exkiq.dispatchers:MRU", []]},
    }
    node = declared.told().overridden(table)
    declared.override(table)
    assert declared.failure_mode("emails") == Retry(times=7)
    child = declared.told()
    for told in (node, child):
        assert {name: terms.weight for name, terms in told.queues.items()} == {
            "emails": 3,
            "other": 2,
            "new": 4,
        }
        assert told.paused == []
        assert list(told.dispatchers) == ["new"]


def test_every_part_of_the_settings_that_cannot_be_made_is_told() -> None:
    """Someone would mend one, and meet the next."""
    exkiq.queue("emails", weight=3)
    before = declared.told()
    with pytest.raises(errors.ConfigError) as caught:
        declared.override(
            {
                "emails": {"failure_mode": ["a.b:C", []], "dispatcher": ["exkiq:Job", []]},
                "slow": {"success_mode": ["exkiq.success_modes:Gone", []]},
                "right": {"failure_mode": ["exkiq.failure_modes:Abandon", []]},
            }
        )
    faults = [fault.partition(": ")[0] for fault in caught.value.faults]
    keys = ("emails.failure_mode", "emails.dispatcher", "slow.success_mode")
    assert faults == [f"queues.{key}" for key in keys]
    assert declared.told() == before


def test_a_node_serves_what_is_declared_unless_the_settings_name_queues() -> None:
    """A declared queue would have no node, or a node take what it was told to leave."""
    told = Declarations({"heavy": QueueTerms(weight=5)}, {"pooled": PoolTerms()})
    assert told.served(["mine"], {}) == {"mine": 1, "heavy": 5, "pooled": 1, "default": 1}
    assert told.served(["mine"], {"mine": 2, "heavy": 1}) == {"mine": 2, "heavy": 1}
    assert told.served(["mine"], {"heavy": 1}, {"heavy": {}}) == {"heavy": 5}


def test_declarations_travel_and_a_forged_row_is_refused() -> None:
    """User code in a child could take its node along."""
    exkiq.queue("emails", weight=3, paused=True, dispatcher=(LRU, ()), failure_mode=Abandon)
    exkiq.pool("emails", Add, slots=2)
    told = declared.told(["a line"])
    row = told.to_row()
    assert Declarations.from_row(row) == told
    forged: list[Any] = [None, [], [1], {}, [[], {}, [], []], [{"q": 3}, {}, [], []]]
    forged += [[{"q": [0, False, None, "", "", ""]}, {}, [], []]]
    forged += [[{"q" * 999: [1, False, None, "", "", ""]}, {}, [], []]]
    forged += [[{"q": [1, False, ["no path", []], "", "", ""]}, {}, [], []]]
    forged += [[{}, {"q": ["W", 10**9, 1, 1]}, [], []], [{}, {}, ["x" * 10**6], []]]
    forged += [[{}, {"q": ["W", 1]}, [], [3]], [{}, {}, None, None]]
    for other in forged:
        with pytest.raises(errors.RemoteWireError):
            Declarations.from_row(other)


def test_the_options_are_shown_as_they_count() -> None:
    """Nobody could tell which of APP, file and default decided."""
    exkiq.queue("emails", weight=3, failure_mode=Abandon())
    exkiq.pool("emails", Add, slots=2, shutdown=1)
    assert declared.told().options({"emails": 3, "default": 1}) == {
        "queues": {
            "default": {
                "weight": 1,
                "paused": False,
                "backend": "replicated",
                "dispatcher": None,
                "failure_mode": None,
                "success_mode": None,
            },
            "emails": {
                "weight": 3,
                "paused": False,
                "backend": "replicated",
                "dispatcher": None,
                "failure_mode": "Abandon()",
                "success_mode": None,
            },
        },
        "pools": {
            "emails": {
                "worker": "tests.api.api_app:Add",
                "slots": 2,
                "init_retry_seconds": 5.0,
                "shutdown": 1.0,
            }
        },
    }


# --- classes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "named"),
    [
        ({"isolation": "fibre"}, ValueError, "isolation"),
        ({"backoff": Requeue}, ValueError, r"backoff must be an instance: Requeue\("),
        ({"queue": exkiq.Local}, ValueError, r"Local\('name'\)"),
        ({"isolation": None}, ValueError, "isolation"),
        ({"init_retry_seconds": -1}, ValueError, "init_retry_seconds"),
        ({"success_mode": Retry}, ValueError, "success_mode"),
        ({"backoff": Move("default")}, ValueError, "Move"),
        ({"queue": "q", "backoff": Retry(finally_=Move("q"))}, ValueError, "Move"),
        ({"failure_mode": Abandon()}, TypeError, "failure_mode"),
    ],
)
def test_a_bad_class_option_is_named(options: Any, error: type[Exception], named: str) -> None:
    """The mistake would show when the first job runs."""
    with pytest.raises(error, match=named):
        type("Wrong", (Worker,), {}, **options)


def test_class_options_are_taken_over_by_a_subclass_and_travel_in_the_spec() -> None:
    """A job that was to have its own process would share one."""

    class Base(Worker, isolation="process", success_mode=Log):
        def perform(self) -> None: ...

    class Below(Base, init_retry_seconds=1): ...

    options = Below.exkiq_options
    assert (options.isolation, options.init_retry_ms, options.success_mode) == (
        "process",
        1_000,
        Log(),
    )
    assert not options.has_own_rule


@pytest.mark.parametrize("mode", [Requeue(), ExponentialRetry(1), Move("graveyard")])
def test_a_mode_may_be_the_backoff_of_a_class(mode: Any) -> None:
    """The whole rule could not be given to one class."""
    worker = type("Right", (Worker,), {}, backoff=mode)
    assert (worker.exkiq_options.backoff, worker.exkiq_options.has_own_rule) == (mode, True)  # type: ignore[attr-defined]
