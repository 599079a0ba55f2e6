"""The network between the nodes: a TCP proxy for each ordered pair, with faults on its wires.

A wire is one direction, a to b, of every connection between the two, whoever dialled. Nothing
that TCP would keep is lost: what a fault holds back comes late, in order, or the connection is
reset.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from random import Random

Pair = tuple[str, str]

RETRANSMIT_S = 0.2  # what a lost segment costs on an idle link
CHUNKS_MAX = 256  # on the way, on one connection


@dataclass(frozen=True)
class Effect:
    """What is wrong with a wire. Seconds; bytes a second; a share of the chunks."""

    is_cut: bool = False
    delay: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    rate: float = 0.0


class Wire:
    """One direction between two nodes."""

    def __init__(self, chance: Random) -> None:
        self.carried = 0  # bytes
        self._effects: dict[int, Effect] = {}
        self._is_whole = asyncio.Event()
        self._is_whole.set()
        self._chance = chance

    def put(self, token: int, effect: Effect) -> None:
        self._effects[token] = effect
        if effect.is_cut:
            self._is_whole.clear()

    def take_off(self, token: int) -> None:
        self._effects.pop(token, None)
        if not any(effect.is_cut for effect in self._effects.values()):
            self._is_whole.set()

    def heal(self) -> None:
        self._effects.clear()
        self._is_whole.set()

    async def hold(self, arrived: float, size: int) -> None:
        """Return when these bytes may go on."""
        self.carried += size
        if not self._effects:
            return
        effects = list(self._effects.values())
        delay = max(e.delay + e.jitter * self._chance.random() for e in effects)
        if self._chance.random() < max(e.loss for e in effects):
            delay += RETRANSMIT_S
        wait = arrived + delay - asyncio.get_running_loop().time()
        if wait > 0:
            await asyncio.sleep(wait)
        rate = min((e.rate for e in effects if e.rate), default=0.0)
        if rate:
            await asyncio.sleep(size / rate)  # one chunk after the other
        await self._is_whole.wait()


class Network:
    """All wires of some nodes, on a loop in a thread of its own."""

    def __init__(self, ports: dict[str, int], seed: int = 0) -> None:
        self._ports = ports
        names = list(ports)
        pairs = [(a, b) for a in names for b in names if a != b]
        self.wires = {pair: Wire(Random(f"{seed} {pair}")) for pair in pairs}
        self.doors: dict[Pair, int] = {}
        self._writers: dict[Pair, set[asyncio.StreamWriter]] = {pair: set() for pair in pairs}
        self._servers: list[asyncio.Server] = []
        self._tokens = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._wait(self._open())

    def routes(self, name: str) -> dict[str, int]:
        """For a node: each other's address, and where to dial instead."""
        return {
            f"127.0.0.1:{self._ports[b]}": door for (a, b), door in self.doors.items() if a == name
        }

    # ---- faults ------------------------------------------------------------------------------

    def spoil(self, pairs: Iterable[Pair], effect: Effect) -> Callable[[], None]:
        """Put an effect on these wires; what is returned takes it off again."""
        self._tokens += 1
        token, spoiled = self._tokens, list(pairs)

        def put() -> None:
            for pair in spoiled:
                self.wires[pair].put(token, effect)

        def off() -> None:
            for pair in spoiled:
                self.wires[pair].take_off(token)

        self._loop.call_soon_threadsafe(put)
        return lambda: self._wait(self._call(off))

    def reset(self, pairs: Iterable[Pair]) -> None:
        """Abort the connections of these pairs."""
        self._wait(self._call(lambda: self._abort(list(pairs))))

    def heal(self) -> None:
        """No wire has a fault any more."""

        def heal() -> None:
            for wire in self.wires.values():
                wire.heal()

        self._wait(self._call(heal))

    def _abort(self, pairs: list[Pair]) -> None:
        for a, b in pairs:
            for writer in self._writers[a, b] | self._writers[b, a]:
                writer.transport.abort()

    # ---- connections -------------------------------------------------------------------------

    async def _open(self) -> None:
        for pair in self.wires:
            server = await asyncio.start_server(self._door(pair), "127.0.0.1", 0)
            self._servers.append(server)
            self.doors[pair] = server.sockets[0].getsockname()[1]

    def _door(
        self, pair: Pair
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def dialled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            try:
                await self._connect(pair, reader, writer)
            except* (OSError, asyncio.CancelledError):
                pass  # one of the two hung up, or the network closes
            writer.transport.abort()

        return dialled

    async def _connect(
        self, pair: Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        a, b = pair
        there, back = self.wires[a, b], self.wires[b, a]
        self._writers[pair].add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            now = asyncio.get_running_loop().time
            await there.hold(now(), 0)
            await back.hold(now(), 0)
            far_reader, far = await asyncio.open_connection("127.0.0.1", self._ports[b])
            self._writers[pair].add(far)
            async with asyncio.TaskGroup() as group:  # with one direction the other ends
                group.create_task(_pump(reader, far, there))
                group.create_task(_pump(far_reader, writer, back))
        finally:
            self._writers[pair] -= {writer, far}
            if far is not None:
                far.transport.abort()

    # ---- the loop ----------------------------------------------------------------------------

    async def _call(self, function: Callable[[], object]) -> None:
        function()

    def _wait(self, work: Awaitable[None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)  # type: ignore[arg-type]

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def close(self) -> None:
        """Hang up on everybody."""
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wire: Wire) -> None:
    """Carry one direction; its end travels like its bytes, and is held back like them."""
    way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_MAX)
    now = asyncio.get_running_loop().time

    async def read() -> None:
        data = b"?"
        while data:
            try:
                data = await reader.read(65_536)
            except OSError:
                data = b""
            await way.put((now(), data))

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read())
        while True:
            arrived, data = await way.get()
            await wire.hold(arrived, len(data))
            if not data:
                break
            writer.write(data)
            await writer.drain()
        reading.cancel()
    writer.close()  # sends what is left first
