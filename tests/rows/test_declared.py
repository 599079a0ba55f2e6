"""Rows about what an APP declares: queues, pools, failure and success modes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import Worker, errors
from exkiq import client as clients
from exkiq.declared import declared
from exkiq.failure_modes import Abandon, ExponentialRetry, FailureMode, Move, Requeue, Retry
from exkiq.task import load_app
from exkiq.telemetry import log
from tests.cluster.harness import until
from tests.machine.driver import Driver
from tests.rows import declared_app as app
from tests.rows.jobs import ledger
from tests.rows.nodes import Group, make_node

APP = "tests.rows.declared_app"
TABLES = {
    "graveyard": 1,
    "told": {"failure_mode": ["exkiq.failure_modes:Abandon", []], "weight": 3},
    "judged": {},
    "logged": {"success_mode": "exkiq.success_modes:Log"},
    **dict.fromkeys(["cracked", "quiet", "moving", "stubborn", "asleep", "my_pool", "default"], 1),
}


@pytest.fixture(scope="module")
def node(surroundings: Path) -> Iterator[Group]:
    """One node that runs the APP which declares."""
    level = log.level
    log.setLevel("INFO")  # before the children start, who then say as much
    options = {"app": APP, "cluster": "rows-declared", "queues": TABLES, "concurrency": 8}
    group = Group(("d1",), **options).start()
    yield group
    group.stop()
    log.setLevel(level)


@pytest.fixture
def one(node: Group) -> Iterator[Group]:
    yield node.use()
    clients.use(None)


def noted(word: str, job: exkiq.Job) -> list[list[str]]:
    return [row[2:] for row in ledger() if row[:2] == [word, job.id]]


def failed_ids() -> set[str]:
    return {status.id for status in exkiq.failed.jobs()}


# --- parts -----------------------------------------------------------------------------------


def test_HD_01_a_mode_of_the_user_decides_where_the_attempt_ran(one: Group) -> None:
    job = app.Fails.perform_async("luckless")
    with pytest.raises(errors.JobFailed, match="luckless"):
        job.result()
    (first, second) = noted("judged", job)
    assert (first[:2], second[:2]) == (["1", "luckless"], ["2", "luckless"])
    assert os.getpid() not in {int(first[2]), int(second[2])}  # the nodes run in this process
    assert job.id in failed_ids()


def test_HD_01_HG_04_a_part_is_given_in_four_ways_and_a_bad_one_changes_nothing(
    one: Group,
) -> None:
    before, known = declared.told(), sorted(exkiq.stats())
    for wrong in (3, "Retry", (Retry, (0,)), Move("new"), Exception):
        with pytest.raises(ValueError, match="failure_mode"):
            exkiq.queue("new", failure_mode=wrong)
    with pytest.raises(TypeError, match="colour"):
        exkiq.queue("new", colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="backend"):
        exkiq.queue("new", backend=dict)
    assert (declared.told(), sorted(exkiq.stats())) == (before, known)
    for given in (Retry(), Retry, (Retry, {"times": 3}), "exkiq.failure_modes:Retry"):
        exkiq.queue("new", failure_mode=given)
        assert declared.failure_mode("new") == Retry()


def test_HG_04_a_second_declaration_names_both(one: Group) -> None:
    with pytest.raises(errors.AlreadyStarted, match=r"Abandon\(\).*Requeue\(\)"):
        exkiq.queue("quiet", failure_mode=Requeue(), weight=2)
    exkiq.queue("quiet", failure_mode=Abandon(), weight=2)


# --- the failure modes -----------------------------------------------------------------------


def test_C_05_the_queues_mode_wins_over_the_class_with_one_warning(one: Group) -> None:
    job = app.OwnRule.perform_async()
    with pytest.raises(errors.JobFailed):
        job.result()
    assert noted("start", job) == [["1"]]
    about = [line for line in load_app([APP]).declarations.warnings if "OwnRule" in line]
    assert len(about) == 1
    assert "'quiet'" in about[0]
    assert "Abandon()" in about[0]


def test_HL_05_an_abandoned_job_is_failed_counted_and_in_no_failed_set(one: Group) -> None:
    before = exkiq.stats(consistent=True)
    job = app.Fails.set(queue="quiet").perform_async("gone")
    with pytest.raises(errors.JobFailed, match="ValueError: gone"):
        job.result()
    status = job.status()
    assert (status.state, status.error is not None) == ("failed", True)
    assert job.id not in failed_ids()
    now = exkiq.stats(consistent=True)
    assert now["failed"] == before["failed"]
    with pytest.raises(TypeError):
        Abandon(3)  # type: ignore[call-arg]


def test_HL_05_a_table_of_the_settings_gives_a_queue_its_mode(one: Group) -> None:
    job = app.Fails.set(queue="told").perform_async()
    with pytest.raises(errors.JobFailed):
        job.result()
    assert job.id not in failed_ids()
    assert noted("start", job) == [["1"]]


def test_HL_06_HL_07_a_moved_job_keeps_its_id_and_ends_in_the_target(one: Group) -> None:
    job = app.Grave.perform_async()
    assert job.result() == ["graveyard", job.id]
    assert job.status().queue == "graveyard"
    with pytest.raises(ValueError, match="graveyard"):
        exkiq.queue("graveyard", failure_mode=Move("graveyard"))
    with pytest.raises(ValueError, match="graveyard"):
        type("Circle", (Worker,), {}, queue="graveyard", backoff=Move("graveyard"))


def decided(mode: FailureMode, failures: int, chance: float = 0.0) -> Any:
    return mode.decide(app.Fails.perform, ValueError(), failures, chance)  # type: ignore[arg-type]


def test_HL_07_retry_runs_times_plus_one_and_refuses_bad_options() -> None:
    assert [decided(Retry(2, 1.5), n)[0] for n in (1, 2, 3)] == ["retry", "retry", "failed"]
    assert decided(Retry(1, finally_=Abandon()), 2) == ["abandon"]
    assert decided(Retry(fun=lambda job, error, n: n * 2), 3) == ["retry", 6000]
    assert decided(Retry(fun=lambda job, error, n: None), 1) == ["failed"]
    for bad in ({"times": 0}, {"times": True}, {"times": 1.5}, {"fun": 3}, {"finally_": Abandon}):
        with pytest.raises((ValueError, TypeError)):
            Retry(**bad)  # type: ignore[arg-type]


def test_HL_08_waits_are_1_3_7_15_31_and_up_to_a_tenth_more() -> None:
    waits = [decided(ExponentialRetry(5), n)[1] for n in range(1, 6)]
    assert waits == [1000, 3000, 7000, 15000, 31000]
    assert decided(ExponentialRetry(5), 5, 0.999)[1] == pytest.approx(34_100, abs=10)
    assert decided(ExponentialRetry(5, base=3, max_delay=20, jitter=0), 4)[1] == 20_000
    assert decided(ExponentialRetry(1), 2) == ["failed"]
    for bad in ({"base": 1}, {"base": 0.5}, {"jitter": 2}, {"times": 0}, {"max_delay": -1}):
        with pytest.raises((ValueError, TypeError)):
            ExponentialRetry(**{"times": 3, **bad})  # type: ignore[arg-type]


def test_HD_25_requeue_is_at_once_as_often_as_it_takes(one: Group) -> None:
    assert app.Third.call(timeout=2.0) == 3


@pytest.mark.parametrize(
    "worker", [app.Fails.set(queue="cracked"), app.Dawdler.set(queue="default")]
)
def test_HL_20_a_rule_that_raises_fails_the_job_with_both_errors(one: Group, worker: Any) -> None:
    job = worker.perform_async()
    with pytest.raises(errors.JobFailed) as caught:
        job.result()
    own = {"no idea what to do", "KeyError: 'nothing'"}
    assert caught.value.error_type == "ValueError"
    assert "broken" in caught.value.error_message
    assert any(text in caught.value.error_message for text in own)
    assert job.id in failed_ids()
    assert exkiq.stats(consistent=True)["running"] == 0


# --- success modes ---------------------------------------------------------------------------


def test_HL_09_a_success_mode_is_told_after_the_commit_and_cannot_change_it(one: Group) -> None:
    job, booed = app.Says.perform_async("bravo"), app.Says.perform_async("boo")
    assert [job.result(), booed.result()] == ["bravo", "boo"]
    (row,) = until(lambda: noted("applause", job), 2.0, "applause")
    assert row[:2] == ["bravo", "1"]
    assert int(row[2]) != os.getpid()
    assert booed.status().state == "succeeded"
    assert noted("applause", booed) == []


def test_HL_09_log_writes_times_and_a_shortened_value(
    one: Group, caplog: pytest.LogCaptureFixture
) -> None:
    job = app.Says.set(queue="logged").perform_async("bravo" * 100)
    assert job.result() == "bravo" * 100

    def lines() -> list[str]:
        return [line for line in caplog.messages if job.id in line and "succeeded" in line]

    (line,) = until(lines, 2.0, "a line")
    assert "waited 0." in line
    assert "ran 0." in line
    assert "bravobravo" in line
    assert len(line) < 400


# --- declared queues and pools ---------------------------------------------------------------


def test_HD_T4_a_queue_declared_paused_is_so_until_somebody_resumes_it(one: Group) -> None:
    job = app.Says.set(queue="asleep").perform_async("late")
    assert exkiq.queue("asleep").stats().paused
    assert job.status().state == "queued"
    exkiq.queue("asleep").resume()
    assert job.result() == "late"


def test_HD_T4_paused_counts_only_when_the_queue_comes_into_being() -> None:
    driver = Driver()
    assert driver.declare(["old"]) == 1
    assert driver.declare(["old", "new"], paused=["old", "new"]) == 1
    queues = driver.machine.queues
    assert (queues["old"].paused, queues["new"].paused) == (False, True)
    driver.resume("new")
    driver.declare(["new"], paused=["new"])
    assert not queues["new"].paused


def test_HD_12_several_functions_of_one_worker(one: Group) -> None:
    assert app.Riak.up.call() is True
    put = app.Riak.put.perform_async("bucket", "key", "v")
    assert isinstance(put, exkiq.Job)
    assert put.result() is None
    assert app.Riak.get.call("bucket", "key") == "v"
    begun = time.monotonic()
    assert app.Riak.get.call("bucket", "missing") is None
    assert time.monotonic() - begun < 1.0


def test_HD_11_pool_options_are_checked_shown_and_fit_into_the_node(one: Group) -> None:
    with pytest.raises(TypeError, match="colour"):
        exkiq.pool("q", app.Riak, colour=3)  # type: ignore[call-arg]
    options = one.nodes["d1"].stats()["options"]
    assert options["pools"] == {
        "my_pool": {
            "worker": f"{APP}:Riak",
            "slots": 2,
            "init_retry_seconds": 5.0,
            "shutdown": 1.0,
        }
    }
    told = options["queues"]["told"]
    assert (told["weight"], told["failure_mode"]) == (3, "Abandon()")
    assert (options["queues"]["quiet"]["weight"], options["queues"]["asleep"]["paused"]) == (
        1,
        True,
    )
    small = make_node("small", app=APP, cluster="rows-small", concurrency=1)
    with pytest.raises(ValueError, match=r"'my_pool' 2.*has 1"):
        small.start()


# --- calls -----------------------------------------------------------------------------------


def test_HD_04_no_result_is_kept_where_none_is_wanted(one: Group) -> None:
    class Forgets(app.Says, result_ttl=0): ...

    assert Forgets.exkiq_options.result_ttl_ms == 0
    kept = app.Says.perform_async("kept")
    gone = app.Says.set(result_ttl=0).perform_async("gone")
    assert kept.result() == "kept"
    until(lambda: _is_forgotten(exkiq.job(gone.id)), 5.0, "no result")
    assert kept.result(0) == "kept"


def _is_forgotten(job: exkiq.Job) -> bool:
    try:
        job.result(0)
    except errors.NoSuchJob:
        return True
    return False


def test_HD_05_a_call_in_time_a_call_too_late_and_a_call_that_fails(one: Group) -> None:
    assert app.Says.call("now", timeout=5.0) == "now"
    exkiq.queue("asleep").pause()
    with pytest.raises(TimeoutError) as late:
        app.Says.set(queue="asleep").call("later", timeout=0.2)
    job = late.value.job  # type: ignore[attr-defined]
    assert (job.status().state, late.value.error) == ("queued", None)  # type: ignore[attr-defined]
    exkiq.queue("asleep").resume()
    assert job.result() == "later"  # it went on
    with pytest.raises(TimeoutError, match="ValueError: first") as waiting:
        app.Fails.set(queue="default").call("first", timeout=0.5)
    assert waiting.value.error.message == "first"  # type: ignore[attr-defined]
    waiting.value.job.cancel()  # type: ignore[attr-defined]
    begun = time.monotonic()
    with pytest.raises(errors.JobFailed) as failed:
        app.Fails.set(retries=0, queue="default").call("once", timeout=30.0)
    assert time.monotonic() - begun < 5.0
    error = failed.value
    assert (error.error_type, error.error_message, error.attempts) == ("ValueError", "once", 1)
    assert "raise ValueError(text)" in error.traceback


def test_HD_06_what_no_node_can_import_is_refused_by_name() -> None:
    @exkiq.task
    def nested() -> None: ...

    class Inside(Worker):
        def perform(self) -> None: ...

    for handle in (nested, Inside, exkiq.task(lambda: None)):
        with pytest.raises(errors.SerializationError, match=r"nested|Inside|lambda"):
            handle.perform_async()
    with pytest.raises(AttributeError, match="gett"):
        app.Riak.gett  # type: ignore[attr-defined]  # noqa: B018
