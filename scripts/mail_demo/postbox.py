"""A real SMTP server on loopback that keeps what it is given and refuses one address."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any

from aiosmtpd.smtp import SMTP

REFUSED = "nobody@exkiq.example"
SECONDS_A_MAIL = 0.15  # what a mail server far away takes; the demo would be over too soon


@dataclass(frozen=True)
class Mail:
    """One mail that arrived."""

    to: str
    job: str
    node: str
    at: float


class Postbox:
    """Takes mail on a free port of 127.0.0.1 from `start` to `stop`."""

    def __init__(self) -> None:
        self.mails: list[Mail] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> str:
        """Begin to listen; returns host:port."""
        self._thread.start()
        listening = self._loop.create_server(self._protocol, "127.0.0.1", 0)
        server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        host, port = server.sockets[0].getsockname()
        return f"{host}:{port}"

    def _protocol(self) -> SMTP:
        return SMTP(self, hostname="mail.exkiq.example", loop=self._loop)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    async def handle_RCPT(  # noqa: N802 - the name aiosmtpd looks for
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if address == REFUSED:
            return "550 5.1.1 no such mailbox here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        await asyncio.sleep(SECONDS_A_MAIL)
        mail = message_from_bytes(envelope.content)
        self.mails.append(Mail(mail["To"], mail["X-Job"], mail["X-Node"], time.time()))
        return "250 OK"

    @property
    def delivered(self) -> Counter[str]:
        """How often a mail of each job arrived."""
        return Counter(mail.job for mail in list(self.mails))

    @property
    def by_node(self) -> Counter[str]:
        """How many mails each node sent."""
        return Counter(mail.node for mail in list(self.mails))
