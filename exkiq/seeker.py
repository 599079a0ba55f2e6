"""Where nodes may be, and the dialling of one after the other until one answers."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path

from exkiq.clock import Clock
from exkiq.config import split_address
from exkiq.config.certificates import FILES, Certificates, TlsFiles, load_given
from exkiq.config.secret import read_secret_file
from exkiq.errors import ClusterMismatch, ConfigError, ExkiqError
from exkiq.links import Link, Timings, dial
from exkiq.wire.hello import Hello

# dial(place, on_open): on_open is given the link before any message is.
Dial = Callable[[str, Callable[[Link], None]], Awaitable[Link]]

# Shorter than a node's: a client has other nodes to ask, and little time.
TIMINGS = Timings(connect=1.0, handshake=1.0)

# Between two rounds in which nobody answered; doubles up to the longest.
ROUND_PAUSE_SECONDS = 0.05
ROUND_PAUSE_SECONDS_MAX = 0.5

# Before a place that failed is tried again.
REST_SECONDS = 0.1

# Places learned from nodes: voters and followers of any cluster of this design.
LEARNED_MAX = 1_000


UNIX_SCHEME = "exkiq+unix://"
TCP_SCHEME = "exkiq"


def places_of(url: str) -> list[str]:
    """The places in a URL, as `dial` takes them. Errors: ConfigError that shows the URL."""
    if url.startswith(UNIX_SCHEME + "/"):
        return ["unix:" + url.removeprefix(UNIX_SCHEME)]
    scheme, _, hosts = url.partition("://")
    try:
        return places_among(hosts.removesuffix("/").split(",") if scheme == TCP_SCHEME else [""])
    except ValueError as error:
        raise ConfigError(
            f"no URL of nodes: {url!r} ({error});"
            " write exkiq://HOST:PORT,HOST:PORT or exkiq+unix:///PATH"
        ) from error


def given_places(url: str | None, peers: Sequence[str], url_around: str | None) -> list[str]:
    """What the caller named, else what the environment names; [] for neither.

    Errors: ConfigError that shows what is no URL or address.
    """
    if url is not None:
        return places_of(url)
    try:
        places = places_among(peers)
    except ValueError as error:
        raise ConfigError(f"peers: {error}") from error
    return places or (places_of(url_around) if url_around else [])


def places_among(addresses: Iterable[str]) -> list[str]:
    """The addresses, if each is a host and a port; else ValueError."""
    places = [address.strip() for address in addresses]
    for place in places:
        if split_address(place)[1] == 0:
            raise ValueError(f"no port in {place!r}")
    return places


def given_secret(environ: Mapping[str, str]) -> bytes | None:
    """The cluster's secret, if the environment has one. Errors: ConfigError, never with it."""
    path, secret = environ.get("EXKIQ_SECRET_FILE"), environ.get("EXKIQ_SECRET")
    if not path:
        return os.fsencode(secret) if secret else None
    try:
        return read_secret_file(Path(path))
    except ValueError as error:
        raise ConfigError(f"EXKIQ_SECRET_FILE: {error}") from error


def given_certificates(files: TlsFiles | None, environ: Mapping[str, str]) -> Certificates | None:
    """Those of `files`, else of the environment, if it names any. Errors: ConfigError."""
    variables = [f"EXKIQ_{name.upper()}" for name in FILES]
    around = {variable: environ.get(variable) for variable in variables}
    try:
        return load_given(around if files is None else dict(zip(FILES, files, strict=True)))
    except ValueError as error:
        raise ConfigError(f"tls: {error}") from error


def dialler(
    hello: Hello,
    secret: bytes | None,
    certificates: Certificates | None,
    clock: Clock,
    nonce: Callable[[int], bytes],
) -> Dial:
    """How this process calls a node."""

    def dial_place(place: str, on_open: Callable[[Link], None]) -> Awaitable[Link]:
        return dial(
            place,
            hello,
            secret,
            clock=clock,
            nonce=nonce,
            on_open=on_open,
            timings=TIMINGS,
            certificates=certificates,
        )

    return dial_place


class Seeker:
    """Finds a node that answers.

    Duties: 1 know the places: those given, and those that nodes told; 2 ask the one that
    failed longest ago first; 3 remember why each did not answer, for the error's text.
    """

    def __init__(
        self, places: Callable[[], Iterable[str]], dial: Dial, clock: Clock, where: str
    ) -> None:
        self._places = places
        self._where = where
        self._dial = dial
        self._clock = clock
        self._learned: dict[str, None] = {}
        self._avoided_at: dict[str, float] = {}
        self._faults: dict[str, str] = {}

    def learn(self, addresses: list[str]) -> None:
        """A node told where the members are."""
        self._learned = dict.fromkeys(addresses[:LEARNED_MAX])

    def avoid(self, link: Link) -> None:
        """This node did not do; it is asked last, under either of its addresses."""
        for place in (link.dialled, link.peer.address):
            if place:
                self._avoided_at[place] = self._clock.monotonic()

    def complaint(self) -> str:
        """Why nobody could be asked, and how to start or reach a node."""
        reasons = "".join(f"; {fault}" for fault in self._faults.values())
        return (
            f"no node answered at {self._where}{reasons}; start one with `exkiq start APP`,"
            " or set EXKIQ_URL=exkiq://HOST:PORT"
        )

    async def find(
        self, is_needed: Callable[[], bool], on_open: Callable[[Link], None]
    ) -> Link | None:
        """A link; None once it is not needed any more.

        Errors: ClusterMismatch when all there are refuse us, which waiting will not change.
        """
        pause = ROUND_PAUSE_SECONDS
        while is_needed():
            link = await self._round(is_needed, on_open)
            if link is not None:
                return link
            await asyncio.sleep(pause)
            pause = min(pause * 2, ROUND_PAUSE_SECONDS_MAX)
        return None

    async def _round(
        self, is_needed: Callable[[], bool], on_open: Callable[[Link], None]
    ) -> Link | None:
        mismatches: list[ClusterMismatch] = []
        places = self._in_order()
        self._faults = {place: fault for place, fault in self._faults.items() if place in places}
        for place in self._rested(places):
            if not is_needed():
                return None
            try:
                link = await self._dial(place, on_open)
            except ClusterMismatch as error:
                mismatches.append(error)
                self._failed(place, error)
            except (ExkiqError, OSError) as error:
                self._failed(place, error)
            else:
                self._faults.clear()
                return link
        if places and len(mismatches) == len(places):
            raise mismatches[0]
        return None

    def _rested(self, places: list[str]) -> list[str]:
        """Without those that failed just now: one may take every caller and hang up at once."""
        rested_since = self._clock.monotonic() - REST_SECONDS
        return [place for place in places if self._avoided_at.get(place, -math.inf) <= rested_since]

    def _failed(self, place: str, error: Exception) -> None:
        self._avoided_at[place] = self._clock.monotonic()
        self._faults[place] = str(error) or type(error).__name__

    def _in_order(self) -> list[str]:
        places = list(dict.fromkeys([*self._places(), *self._learned]))
        self._avoided_at = {
            place: moment for place, moment in self._avoided_at.items() if place in places
        }
        return sorted(places, key=lambda place: self._avoided_at.get(place, -math.inf))
