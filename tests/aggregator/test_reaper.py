"""Who is silent for too long, judged only by what could be heard."""

from __future__ import annotations

from exkiq.aggregator.reaper import Reaper
from exkiq.clock import ManualClock
from exkiq.machine import Session


def sessions(*names: str) -> dict[str, Session]:
    return {name: Session(number, name, "run", "a:1") for number, name in enumerate(names, 1)}


def watch(clock: ManualClock, reaper: Reaper, running: dict[str, Session], ms: int) -> list[str]:
    """Look every 250 ms for so long; gives who was named, each time."""
    named = []
    for _ in range(ms // 250):
        clock.advance(250)
        for session in reaper.silent(running):
            named.append(session.node)
            reaper.proposed(session.node, session.id)
    return named


def test_silence_of_the_timeout_ends_a_session_once() -> None:
    """A lost node would keep its jobs, or be declared over again and again."""
    clock = ManualClock()
    reaper, running = Reaper(clock, "me", 2.0), sessions("me", "gone")
    reaper.heard("gone", clock.monotonic())
    assert watch(clock, reaper, running, 1_750) == []
    assert watch(clock, reaper, running, 250) == ["gone"]
    assert watch(clock, reaper, running, 5_000) == []


def test_a_sign_of_life_grants_a_full_timeout() -> None:
    """A node would be given up although it speaks."""
    clock = ManualClock()
    reaper, running = Reaper(clock, "me", 2.0), sessions("n1")
    for _ in range(10):
        assert watch(clock, reaper, running, 1_500) == []
        reaper.heard("n1", clock.monotonic())
        reaper.heard("n1", clock.monotonic() - 1)  # an older one changes nothing
    assert watch(clock, reaper, running, 1_750) == []


def test_a_new_leader_grants_a_full_timeout_to_the_unheard() -> None:
    """An election would cost every node its session, or leave one that died in it for ever."""
    clock = ManualClock()
    clock.advance(60_000)
    reaper, running = Reaper(clock, "me", 2.0), sessions("never-heard")
    reaper.silent(running)
    assert watch(clock, reaper, running, 1_750) == []
    assert watch(clock, reaper, running, 250) == ["never-heard"]


def test_the_leader_itself_is_never_over() -> None:
    """The leader, whom nobody pings, would hand its own jobs to others."""
    clock = ManualClock()
    reaper, running = Reaper(clock, "me", 2.0), sessions("me")
    assert watch(clock, reaper, running, 60_000) == []
    assert reaper.next_wake(running) is None


def test_a_pause_of_the_leader_is_nobodys_silence() -> None:
    """After five seconds of a stopped leader every node would be declared lost."""
    clock = ManualClock()
    reaper, running = Reaper(clock, "me", 2.0), sessions("n1", "n2")
    watch(clock, reaper, running, 500)
    clock.advance(5_000)
    assert reaper.silent(running) == []
    reaper.heard("n1", clock.monotonic())
    assert set(watch(clock, reaper, running, 1_750)) == {"n2"}


def test_a_new_session_starts_afresh() -> None:
    """A node that came back would be over again at once, or never again."""
    clock = ManualClock()
    reaper, running = Reaper(clock, "me", 2.0), sessions("n1")
    reaper.silent(running)
    assert watch(clock, reaper, running, 2_000) == ["n1"]
    reaper.over("n1")
    running = {"n1": Session(9, "n1", "run-2", "a:1")}
    reaper.begun("n1")
    assert watch(clock, reaper, running, 1_750) == []
    assert watch(clock, reaper, running, 250) == ["n1"]


def test_it_wakes_often_enough() -> None:
    """A lost node would be noticed late because nobody looked."""
    clock = ManualClock()
    reaper, running = Reaper(clock, "me", 2.0), sessions("me", "n1")
    assert not reaper.is_due
    wake = reaper.next_wake(running)
    assert wake is not None
    assert wake <= clock.monotonic() + 0.25
    clock.advance(250)
    assert reaper.is_due
