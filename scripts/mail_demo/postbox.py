"""A real SMTP server on loopback that keeps what it is given and refuses one address."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any

from aiosmtpd.controller import Controller

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
        self._controller = Controller(self, hostname="127.0.0.1", port=0)

    def start(self) -> str:
        """Begin to listen; returns host:port."""
        self._controller.start()
        host, port = self._controller.server.sockets[0].getsockname()
        return f"{host}:{port}"

    def stop(self) -> None:
        self._controller.stop()

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
