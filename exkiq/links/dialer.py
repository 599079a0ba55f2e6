"""Opening a link to a node."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from exkiq.clock import Clock
from exkiq.config.addresses import split_address
from exkiq.config.certificates import Certificates
from exkiq.errors import ConfigError, ExkiqError, NoNodeError
from exkiq.links.complaints import Complaints
from exkiq.links.link import Link
from exkiq.links.opening import Opening, Outcome, Terms
from exkiq.links.timings import Timings
from exkiq.wire.hello import Hello

UNIX_PREFIX = "unix:"


def _as_it_is(_: Link) -> None:
    """The caller sets its callbacks when `dial` returns; nothing is pushed unasked before."""


async def dial(
    address: str,
    hello: Hello,
    secret: bytes | None,
    *,
    clock: Clock,
    nonce: Callable[[int], bytes],
    on_open: Callable[[Link], None] = _as_it_is,
    timings: Timings | None = None,
    certificates: Certificates | None = None,
) -> Link:
    """Connect to "host:port" or "unix:/path" and shake hands.

    Shapes: `on_open(link)` is the place to set the link's callbacks: no message comes before it.
    Errors: NoNodeError (nobody answers, or too late), ClusterMismatch (another cluster, secret,
    version or CA; the text says which), RemoteWireError (something that is no node answers),
    ConfigError (no address).
    """
    terms = Terms(
        lambda: hello,
        secret,
        nonce,
        clock,
        timings or Timings(),
        Complaints(clock),
        certificates,
    )
    return await open_link(address, terms, on_open)


async def open_link(
    address: str,
    terms: Terms,
    on_open: Callable[[Link], None],
    *,
    on_failed: Callable[[ExkiqError, Opening, Hello | None], None] | None = None,
    is_wanted: Callable[[Hello], bool] | None = None,
) -> Link:
    """As `dial`; `is_wanted` may hang up on a peer as soon as its name is known (Unwanted)."""
    opened: asyncio.Future[Link] = asyncio.get_running_loop().create_future()

    def succeeded(link: Link) -> None:
        on_open(link)
        if not opened.done():
            opened.set_result(link)

    def failed(error: ExkiqError, peer: Hello | None) -> None:
        if on_failed is not None:
            on_failed(error, opening, peer)
        if not opened.done():
            opened.set_exception(type(error)(f"{address}: {error}"))

    opening = Opening(terms, Outcome(succeeded, failed), dialled=address, is_wanted=is_wanted)
    try:
        async with asyncio.timeout(terms.timings.connect):
            await _connect(address, opening)
        return await opened
    except (OSError, UnicodeError) as error:
        raise NoNodeError(f"nobody answers at {address}: {_reason(error, terms)}") from error
    finally:
        opened.cancel()
        opening.abort("given up")
        if not opened.cancelled():
            opened.exception()  # seen, even if the connection failed first


def _reason(error: OSError | UnicodeError, terms: Terms) -> str:
    """Why, without the numbers and the address again."""
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0:
        return os.strerror(number).lower()
    return str(error) or f"no connection within {terms.timings.connect} s"


async def _connect(address: str, opening: Opening) -> None:
    loop = asyncio.get_running_loop()
    if address.startswith(UNIX_PREFIX):
        await loop.create_unix_connection(lambda: opening, address.removeprefix(UNIX_PREFIX))
        return
    try:
        host, port = split_address(address)
    except ValueError as error:
        raise ConfigError(f"{address!r} is no address: host:port or unix:/path") from error
    await loop.create_connection(lambda: opening, host, port)
