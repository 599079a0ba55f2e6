"""A child's words on their way to the node, and the watch over its loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from exkiq.clock import ManualClock
from exkiq.machine import limits
from exkiq.pool.outbox import Outbox
from exkiq.pool.stall import StallWatch
from exkiq.pool.words import BATCH_BYTES_MAX, Word
from exkiq.wire.frames import FrameDecoder
from tests.pool.harness import until


def sent_by(puts: Callable[[Outbox], None]) -> list[list[Any]]:
    frames: list[bytes] = []

    async def main() -> None:
        puts(Outbox(asyncio.get_running_loop(), frames.append))
        await asyncio.sleep(0.001)

    asyncio.run(main())
    words: list[Any] = [word for data in frames for word in FrameDecoder().feed(data)]
    return words


def test_a_batch_is_one_frame_a_word_and_checkpoints_go_first() -> None:
    """A checkpoint would come after its job's end, and be dropped."""

    def puts(outbox: Outbox) -> None:
        outbox.put(Word.DONE, ("a", 1, b"\x05", 7))
        outbox.put(Word.CHECKPOINTS, ["b", 2, b"\x01"])
        outbox.put(Word.DONE, ("c", 3, None, 8))

    assert sent_by(puts) == [
        [Word.CHECKPOINTS, [["b", 2, b"\x01"]]],
        [Word.DONE, ["a", "c"], [1, 3], [b"\x05", None], [7, 8]],
    ]


def test_each_batch_wakes_the_loop_again() -> None:
    """The outcomes of the second batch would wait for ever."""
    seen: list[bytes] = []

    async def main() -> None:
        outbox = Outbox(asyncio.get_running_loop(), seen.append)
        for put in (outbox.put, outbox.put_threadsafe, outbox.put, outbox.put_threadsafe):
            before = len(seen)
            put(Word.CANCELLED, None)
            await until(lambda before=before: len(seen) > before)  # type: ignore[misc]

    asyncio.run(main())
    assert len(seen) == 4


def test_a_large_batch_is_cut_into_frames() -> None:
    """A hundred large values would be one frame that the node refuses."""
    value = bytes(limits.RESULT_BYTES_MAX)

    def puts(outbox: Outbox) -> None:
        for i in range(100):
            outbox.put(Word.DONE, (f"j{i}", i, value, 1))
            outbox.put(Word.FAILED, [f"f{i}", i, ["failed"], ["E", "é" * 10_000, "t" * 8192], 1])

    words = sent_by(puts)

    done = [word for word in words if word[0] == Word.DONE]
    failed = [word for word in words if word[0] == Word.FAILED]
    assert [name for word in done for name in word[1]] == [f"j{i}" for i in range(100)]
    assert [row[0] for word in failed for row in word[1]] == [f"f{i}" for i in range(100)]
    biggest = max(sum(map(len, word[3])) for word in done)
    assert biggest <= BATCH_BYTES_MAX + limits.RESULT_BYTES_MAX


def test_words_from_many_threads_all_arrive() -> None:
    """The loop would sleep while an outcome waits: its slot would be taken for ever."""
    seen: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        complete = asyncio.Event()

        def send(data: bytes) -> None:
            for word in FrameDecoder().feed(data):
                seen.extend(word[1])  # type: ignore[index, arg-type]
            if len(seen) == 2000:
                complete.set()

        outbox = Outbox(loop, send)

        def put(thread: int) -> None:
            for i in range(500):
                outbox.put_threadsafe(Word.DONE, (f"{thread}.{i}", 1, None, 1))

        threads = [threading.Thread(target=put, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(5):
            await complete.wait()
        for thread in threads:
            thread.join()

    asyncio.run(main())
    assert len(set(seen)) == 2000


def test_a_loop_that_stands_still_is_told_once_with_the_task(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Blocking code in an `async def` task would stop its neighbours and nobody would know."""
    clock = ManualClock()

    async def main() -> None:
        watch = StallWatch(asyncio.get_running_loop(), clock)

        def look_often() -> None:
            for _ in range(3):
                watch.look()

        looks = threading.Thread(target=look_often)
        watch.look()
        clock.advance(999)
        watch.look()
        assert caplog.text == ""
        clock.advance(1)
        looks.start()
        looks.join()

    with asyncio.Runner() as runner:
        runner.run(named(main))
    assert caplog.text.count("stands still") == 1
    assert "'send_mail'" in caplog.text


async def named(main: Callable[[], Any]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.set_name("send_mail")
    await main()
