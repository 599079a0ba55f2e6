"""The client of another node's local queue: every request goes by way of any node."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

from exkiq.bridge import background
from exkiq.client import Client, default
from exkiq.links import Link
from exkiq.local.hosting import VERB
from exkiq.seeker import Dial
from exkiq.wire import Hello


class NodeClient(Client):
    """Asks as `client` does, the same nodes with the same secret; each request is put in an
    envelope with the name of the node and the queue."""

    def __init__(self, client: Client, node: str, queue: str) -> None:  # its settings are taken
        self.asks_as = client
        self._envelope = [VERB, node, queue]
        for name in (
            "enqueue_timeout",
            "_cluster",
            "_fixed_places",
            "_secret",
            "_certificates",
            "_clock",
        ):
            setattr(self, name, getattr(client, name))
        self._is_closed = False
        self._start_anew()
        background.join(self)

    def _dial(self) -> Dial:
        dial = super()._dial()

        async def dial_through(place: str, on_open: Callable[[Link], None]) -> Link:
            wrapped = _Enveloping(self._envelope)

            def opened(link: Link) -> None:
                wrapped.open(link)
                on_open(cast("Link", wrapped))

            await dial(place, opened)
            return cast("Link", wrapped)

        return dial_through


class _Enveloping:
    """A link whose requests go out in an envelope; answers come back without one."""

    on_message: Callable[[Any, list[Any]], None]
    on_close: Callable[[Any, str], None]

    def __init__(self, envelope: list[str]) -> None:
        self._envelope = envelope
        self._link: Link

    def open(self, link: Link) -> None:
        self._link = link
        link.on_message = lambda _, message: self.on_message(self, message)
        link.on_close = lambda _, reason: self.on_close(self, reason)

    @property
    def is_open(self) -> bool:
        return self._link.is_open

    @property
    def dialled(self) -> str | None:
        return self._link.dialled

    @property
    def peer(self) -> Hello:
        return self._link.peer

    def send(self, message: list[Any]) -> bool:
        rid, *request = message
        return self._link.send([rid, *self._envelope, *request])

    def close(self, reason: str) -> None:
        self._link.close(reason)


class ClientsOfNodes:
    """The clients of other nodes' queues, one for each, as long as the process asks one cluster."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[tuple[str, str], NodeClient] = {}
        background.join(self)

    def find(self, node: str, queue: str) -> NodeClient:
        """The one for that queue."""
        asks_as = default()
        found = self._clients.get((node, queue))
        if found is not None and found.asks_as is asks_as:
            return found
        with self._lock:
            found = self._clients.get((node, queue))  # another thread may have made one
            if found is not None and found.asks_as is asks_as:
                return found
            self._clients[node, queue] = made = NodeClient(asks_as, node, queue)
        if found is not None:
            found.close()
        return made

    def leave_parent(self) -> None:
        """In a child after a fork: a thread of the parent may have held the lock."""
        self._lock = threading.Lock()


clients_of_nodes = ClientsOfNodes()
