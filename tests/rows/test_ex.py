"""Rows EX: what callers, jobs and queues are promised. Membership is in test_ex_nodes.py."""

from __future__ import annotations

import datetime
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import exkiq
from exkiq import Worker, errors
from exkiq.cli import main
from exkiq.config import from_command_line
from tests.cluster.harness import until
from tests.rows.jobs import (
    AsyncEcho,
    Broken,
    Echo,
    Heavy,
    Hold,
    Light,
    Methods,
    Note,
    Once,
    Plain,
    SecondTime,
    ledger,
    whoami,
)
from tests.rows.nodes import Group, make_node

WHEN = datetime.datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)


def starts(*jobs: exkiq.Job) -> list[int]:
    """How often each job was started."""
    counts = Counter(row[1] for row in ledger() if row[0] == "start")
    return [counts[job.id] for job in jobs]


def test_EX_01_every_member_lists_the_job_in_the_same_order(four: Group) -> None:
    exkiq.queue("paused").pause()
    jobs = [Echo.set(queue="paused").perform_async(number) for number in range(20)]
    acknowledged = time.monotonic()
    for name in four.nodes:
        with four.client_of(name) as client:
            queue = client.queue("paused")
            until(lambda q=queue: len(q.jobs()) == 20, 1.0, f"20 jobs on {name}")
            assert [job.id for job in queue.jobs()] == [job.id for job in jobs]
    assert time.monotonic() - acknowledged < 1.0


def test_EX_08_flags_then_variables_then_file_then_default(tmp_path: Path) -> None:
    file = tmp_path / "exkiq.toml"
    file.write_text("concurrency = 3\ncluster = 'file'\nnode_timeout = 5.0\n")
    environ = {"EXKIQ_CONCURRENCY": "4", "EXKIQ_CLUSTER": "variable"}
    settings = from_command_line({"concurrency": 5}, environ, file)
    assert (settings.concurrency, settings.cluster) == (5, "variable")
    assert (settings.node_timeout, settings.drain_timeout) == (5.0, 10.0)


@pytest.mark.parametrize(
    "state", ["scheduled", "retry", "running", "failed", "succeeded", "cancelled", "queued"]
)
def test_EX_08_a_state_is_no_queue_name(state: str) -> None:
    with pytest.raises(ValueError, match=state):
        exkiq.queue(state)
    with pytest.raises(ValueError, match=state):
        Echo.set(queue=state)
    with pytest.raises(ValueError, match=state):
        type("Wrong", (Worker,), {}, queue=state)
    with pytest.raises(ValueError, match=state):
        make_node("wrong", queues={state: 1})


def test_EX_08_configured_queues_and_default_show_with_0(single: Group) -> None:
    stats = single.use().client.stats(consistent=True)
    assert {stats[name] for name in ("heavy", "light", "broken", "holds", "default")} == {0}


def test_EX_09_concurrency_is_an_exact_cap_of_each_node(four: Group, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    jobs = [Hold.perform_async(str(gate)) for _ in range(15)]
    until(lambda: exkiq.stats()["running"] == 12, 5.0, "all slots taken")
    time.sleep(0.3)
    assert (exkiq.stats()["running"], sum(starts(*jobs))) == (12, 12)
    running = Counter(job.by for job in exkiq.queue("holds").jobs(state="running"))
    assert running == {"n1": 4, "n2": 4, "n3": 4}
    gate.touch()
    assert all(isinstance(job.result(), int) for job in jobs)


def test_EX_09_concurrency_is_ten_by_default() -> None:
    assert make_node("plain").settings.concurrency == 10


def test_EX_10_class_options_are_optional_and_honoured(four: Group) -> None:
    plain, once = Plain.perform_async(1), Once.perform_async()
    assert (plain.status().queue, plain.status().retries) == ("default", 5)
    with pytest.raises(errors.JobFailed):
        once.result()
    assert (once.status().queue, once.status().retries) == ("once", 0)
    assert starts(once) == [1]  # 0 is one run


@pytest.mark.parametrize("retries", [True, -1, 1.0, "1", None])
def test_EX_10_retries_is_an_int_from_0(retries: Any) -> None:
    with pytest.raises(ValueError, match="retries"):
        type("Wrong", (Worker,), {}, retries=retries)
    with pytest.raises(ValueError, match="retries"):
        Echo.set(retries=retries)


def test_EX_10_set_gives_a_new_handle_and_unknown_words_are_told(four: Group) -> None:
    with pytest.raises(TypeError, match="colour"):
        type("Wrong", (Worker,), {}, colour="red")
    with pytest.raises(TypeError, match="colour"):
        Echo.set(colour="red")  # type: ignore[call-arg]
    handle = Plain.set(queue="echo").set(retries=2)
    job = handle.perform_async(1)
    assert (job.status().queue, job.status().retries) == ("echo", 2)
    assert Plain.perform_async(1).status().queue == "default"


def test_EX_11_arguments_arrive_as_they_were(four: Group) -> None:
    args = [None, True, 2**63 - 1, -(2**63), 1.5, "ü", b"\x00\xff", [1, [2]], {"a": {"b": 1}}, WHEN]
    assert Echo.call(*args, key=WHEN) == [args, {"key": WHEN}]
    assert AsyncEcho.call(*args, key=WHEN) == [args, {"key": WHEN}]
    assert Echo.call((1, (2, 3))) == [[[1, [2, 3]]], {}]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        pytest.param(object(), "first", id="object"),
        ({1, 2}, "first"),
        (2**64, "first"),
        (WHEN.replace(tzinfo=None), "first"),
    ],
)
def test_EX_11_anything_else_is_refused_naming_the_argument(
    four: Group, value: Any, named: str
) -> None:
    before = exkiq.stats(consistent=True)
    with pytest.raises(errors.SerializationError, match=named):
        Plain.perform_async(value)
    with pytest.raises(errors.SerializationError, match="second"):
        Plain.perform_async(1, second=value)
    assert exkiq.stats(consistent=True) == before


def test_EX_11_over_a_mebibyte_is_refused_and_wrong_arity_fails_the_attempt(four: Group) -> None:
    with pytest.raises(errors.SerializationError, match="1048576"):
        Echo.perform_async("x" * (1 << 20))
    with pytest.raises(errors.ResultTooLarge):  # its arguments were not
        Echo.call("x" * 900_000)
    job = Plain.set(retries=0).perform_async()  # type: ignore[call-arg]
    with pytest.raises(errors.JobFailed, match=r"TypeError.*first"):
        job.result()


def test_EX_12_bulk_checks_all_first_and_keeps_the_order(four: Group) -> None:
    before = exkiq.stats(consistent=True)
    with pytest.raises(errors.SerializationError, match="item 1500"):
        Plain.set(queue="paused").perform_bulk([(1,)] * 1_500 + [(object(),)])
    assert exkiq.stats(consistent=True) == before
    exkiq.queue("paused").pause()
    jobs = Plain.set(queue="paused").perform_bulk([(number,) for number in range(2_500)])
    listed = exkiq.queue("paused").jobs(state="queued", limit=3_000)
    assert [job.id for job in listed] == [job.id for job in jobs]
    assert [job.args for job in listed] == [(number,) for number in range(2_500)]


def test_EX_12_inline_needs_nobody_and_raises_the_jobs_own_error() -> None:
    assert Echo.perform_inline(1, (2,), key="x") == [[1, [2]], {"key": "x"}]
    assert AsyncEcho.perform_inline(1) == [[1], {}]
    with pytest.raises(ValueError, match="never"):
        Once.perform_inline()
    with pytest.raises(errors.SerializationError):
        Echo.perform_inline(object())


def test_EX_13_units_are_summed_or_a_timedelta_comes_first(four: Group) -> None:
    units = {"weeks": 1, "days": 1, "hours": 1, "minutes": 1, "seconds": 1, "milliseconds": 1}
    for job in (
        Plain.perform_in(7, **units),
        Plain.perform_in(datetime.timedelta(**units), 7),
    ):
        status = job.status()
        assert (status.state, status.args) == ("scheduled", (7,))
        assert status.run_at is not None
        assert status.enqueued_at is not None
        assert status.run_at - status.enqueued_at == datetime.timedelta(**units)
        assert job.cancel() == "ok"


def test_EX_13_what_is_no_duration_or_no_moment_is_refused() -> None:
    for wrong in ((10,), (10, 7), ()):
        with pytest.raises(TypeError, match=r"perform_in\(minutes=10\)"):
            Plain.perform_in(*wrong)
    with pytest.raises(ValueError):
        Plain.perform_in(7, minutes=-1)
    with pytest.raises(ValueError):
        Plain.perform_in(datetime.timedelta(-1), 7)
    with pytest.raises(ValueError, match="aware"):
        Plain.perform_at(datetime.datetime(2030, 1, 1), 7)


def test_EX_13_a_moment_in_the_past_is_now_and_a_later_one_is_kept(four: Group) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    assert Plain.perform_at(past, 1, 2).result() == 3
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.4)
    job = Plain.perform_at(soon, 1, 2)
    assert job.result() == 3
    started = job.status().started_at
    assert started is not None
    assert datetime.timedelta() <= started - soon < datetime.timedelta(seconds=1)


def test_EX_14_a_failed_attempt_waits_in_retry_with_its_due_time(four: Group) -> None:
    job = SecondTime.perform_async()
    until(lambda: job.status().state == "retry", 2.0, "the retry")
    status = job.status()
    assert status.run_at is not None
    assert status.run_at > datetime.datetime.now(datetime.UTC)
    assert (status.attempt, status.retries_left) == (2, 2)
    assert job.result() == 2
    started = job.status().started_at
    assert started is not None
    waited = (started - status.run_at).total_seconds()
    assert 0 <= waited < 1.0
    assert (exkiq.stats()["retry"], job.status().state) == (0, "succeeded")


def test_EX_15_the_failed_set_tells_all_and_gives_back(four: Group) -> None:
    first, second, third = (Broken.perform_async(text) for text in ("one", "two", "x" * 20_000))
    for job in (first, second, third):
        with pytest.raises(errors.JobFailed) as caught:
            job.result()
        assert (caught.value.error_type, caught.value.attempts) == ("RuntimeError", 2)
    status = next(job for job in exkiq.queue("broken").jobs(state="failed") if job.id == first.id)
    assert status.error is not None
    assert status.error[:2] == ("RuntimeError", "one")
    assert "raise RuntimeError(text)" in status.error.traceback
    assert (status.attempt, status.by in four.nodes) == (2, True)
    assert status.completed_at is not None
    assert exkiq.failed.retry(first) == 1
    with pytest.raises(errors.JobFailed):
        first.result()
    assert starts(first) == [4]  # a fresh budget, the same id
    assert exkiq.failed.delete(second.id, third.id) == 2
    with pytest.raises(errors.NoSuchJob):
        exkiq.job(second.id).status()
    assert exkiq.failed.retry_all(queue="broken") == 1
    until(lambda: starts(first) == [6] and first.status().state == "failed", 5.0, "the end")
    assert [job.id for job in exkiq.failed.jobs() if job.queue == "broken"] == [first.id]
    assert exkiq.failed.delete(first) == 1
    assert exkiq.failed.delete(first) == 0


def test_EX_16_succeeded_is_counted_exactly_and_the_last_1000_are_kept(four: Group) -> None:
    before = exkiq.stats(consistent=True)["succeeded"]
    jobs = Plain.perform_bulk([(number,) for number in range(1_100)])
    until(lambda: exkiq.stats()["succeeded"] == before + 1_100, 15.0, "all of them")
    listed = exkiq.queue("default").jobs(state="succeeded", limit=2_000)
    assert len(listed) <= 1_000
    assert {job.id for job in listed} <= {job.id for job in jobs}
    assert jobs[0].result() == 0  # results have a lifetime of their own


def test_EX_17_counts_are_equal_everywhere_and_clear_spares_what_runs(
    four: Group, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gate = tmp_path / "gate"
    running = Hold.set(queue="echo").perform_async(str(gate))
    until(lambda: running.status().state == "running", 2.0, "its start")
    exkiq.queue("echo").pause()
    Echo.perform_bulk([(number,) for number in range(5)])
    Echo.perform_in(1, hours=1)
    expected = exkiq.stats(consistent=True)
    assert (expected["echo"], expected["running"], expected["scheduled"]) == (5, 1, 1)
    until(lambda: four.each(exkiq.Client.stats) == [expected] * 4, 2.0, "equal counts")
    assert exkiq.queue("echo").clear() == 6
    assert exkiq.queue("echo").resume()
    assert running.status().state == "running"
    gate.touch()
    assert running.result()
    url = f"exkiq://127.0.0.1:{four.ports['n1']}"
    assert main(["stats", "--json", "--url", url]) == 0
    assert '"succeeded"' in capsys.readouterr().out


def test_EX_19_queues_take_turns_by_weight(single: Group) -> None:
    single.use()
    for name in ("heavy", "light"):
        exkiq.queue(name).pause()
    jobs = Heavy.perform_bulk([()] * 60) + Light.perform_bulk([()] * 20)
    for name in ("heavy", "light"):
        exkiq.queue(name).resume()
    for job in jobs:
        job.result(timeout=20)
    order = sorted((job.status().fence, job.status().queue) for job in jobs)
    half = Counter(queue for _, queue in order[8:48])
    assert 25 <= half["heavy"] <= 34  # three of four, give or take how they came in


def test_EX_20_a_due_retry_stays_in_retry_until_a_slot_takes_it(
    single: Group, tmp_path: Path
) -> None:
    single.use()
    gate = tmp_path / "gate"
    exkiq.queue("broken").pause()
    failing, holding = Broken.perform_async(), Hold.perform_async(str(gate))
    exkiq.queue("broken").resume()
    until(lambda: holding.status().state == "running", 5.0, "its start")
    if failing.status().state == "queued":
        gate.touch()
        until(lambda: failing.status().state == "retry", 5.0, "a failure")
        gate.unlink()
        holding = Hold.perform_async(str(gate))
        until(lambda: holding.status().state == "running", 5.0, "its start")
    time.sleep(0.3)  # it is due long ago
    assert failing.status().state in ("retry", "failed")
    gate.touch()
    with pytest.raises(errors.JobFailed):
        failing.result()


def test_EX_21_an_id_belongs_to_the_first_job(four: Group) -> None:
    first = Plain.set(id="ohai").perform_async(1)
    assert Plain.set(id="ohai").perform_async(2) == first
    with pytest.raises(errors.JobAlreadyExists):
        Plain.set(id="ohai", unique="error").perform_async(3)
    assert first.result() == 1
    assert Plain.set(id="ohai").perform_async(4).result() == 1  # also after its end
    assert first.status().args == (1,)


def test_EX_21_ids_are_checked_and_made_in_order(four: Group) -> None:
    for wrong in ("", "x" * 129, 7, None):
        with pytest.raises(ValueError, match="id"):
            Plain.set(id=wrong)  # type: ignore[typeddict-item]
    assert Plain.set(id="x" * 128).perform_async(1).result() == 1
    with pytest.raises(ValueError, match="perform_bulk"):
        Plain.set(id="many").perform_bulk([(1,)])
    made = [Plain.perform_async(number).id for number in range(50)]
    assert made == sorted(set(made))


def test_EX_12_functions_and_methods_have_the_same_verbs(four: Group) -> None:
    job = whoami.perform_async()
    assert job.result() == [job.id, 1, job.status().fence]
    assert Methods.double.call(21) == 42
    assert Note.perform_async().result() is None
