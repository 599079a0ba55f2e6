"""Announcing this node by multicast DNS and hearing of others: the only user of zeroconf.

The rules of this file:

- What is heard becomes a sighting, no more. A goodbye is ignored: links tell who is alive.
- No probing for the name and multicast answers only. The instance's name is unique by its tag,
  so probing is 0.75 s for nothing; and several processes of one machine share the port, where
  a unicast answer reaches an arbitrary one of them. Measured on loopback, three processes
  started at once: all know all after 0.23 s, with probing after 1.2 s.
- Nothing heard is trusted: texts are bounded, hosts must be near, and where there is a secret
  the tag must be made with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from zeroconf import DNSQuestionType, Error, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from exkiq.config.addresses import is_unspecified, join_address, split_address
from exkiq.discovery.sighting import Sighting, is_near
from exkiq.telemetry import log
from exkiq.wire.shared_secrets import secrets_in

SERVICE = "_exkiq._tcp.local."
GROUP = "224.0.0.251"  # of multicast DNS, RFC 6762
AGAIN_SECONDS = 30.0  # packets get lost and networks come up late: announce again
LABEL_CHARS_MAX = 40  # with the tag's 12 within the 63 of DNS
TEXT_BYTES_MAX = 200  # with its key within the 255 of a TXT string
ADDRESSES_MAX = 4  # of one announcement
TAG_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What a node tells everybody: no secret, no job data."""

    cluster: str
    name: str
    incarnation: str
    address: str
    protocol_version: int


class Mdns:
    """Announces one node and reports others.

    Duties: announce at once and again now and then; turn what is heard into sightings; be no
    reason for a node not to start.
    """

    def __init__(
        self,
        announced: Announced,
        *,
        interfaces: Sequence[str],
        secret: bytes | None,
        on_sighting: Callable[[Sighting], None],
    ) -> None:
        self._announced = announced
        self._interfaces = list(interfaces)
        self._secret = secret
        self._on_sighting = on_sighting
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: AsyncServiceInfo | None = None
        self._announcing: Awaitable[None] | None = None
        self._again: asyncio.TimerHandle | None = None

    async def start(self) -> bool:
        """Announce and listen; False, with a warning in the log, where that is impossible."""
        try:
            await self._open()
        except (OSError, Error, ValueError, RuntimeError) as error:
            log.warning("mDNS is off, only static peers can be found: %s", error)
            await self.stop()
            return False
        return True

    async def stop(self) -> None:
        """Say goodbye once and close. May be called twice, or before `start`."""
        zeroconf, self._zeroconf = self._zeroconf, None
        if self._again is not None:
            self._again.cancel()
        if self._browser is not None:
            await self._browser.async_cancel()
            self._browser = None
        if isinstance(self._announcing, asyncio.Future):
            self._announcing.cancel()
        if zeroconf is not None:
            goodbye = zeroconf.zeroconf.generate_unregister_all_services()
            if goodbye is not None:
                zeroconf.zeroconf.async_send(goodbye)
            await zeroconf.async_close()

    async def _open(self) -> None:
        for interface in self._interfaces:
            _check_multicast(interface)
        info = self._info = self._service_info()
        self._zeroconf = AsyncZeroconf(interfaces=self._interfaces)
        zeroconf = self._zeroconf.zeroconf
        await zeroconf.async_wait_for_start()
        if not zeroconf.engine.senders:
            raise OSError(f"no multicast on {', '.join(self._interfaces)}")
        self._browser = AsyncServiceBrowser(
            zeroconf, [SERVICE], handlers=[self._heard], question_type=DNSQuestionType.QM
        )
        self._announcing = await self._zeroconf.async_register_service(
            info, cooperating_responders=True
        )
        self._wait_to_repeat()

    def _service_info(self) -> AsyncServiceInfo:
        said = self._announced
        host, port = split_address(said.address)
        tag = make_tag(said.cluster, said.name, port, next(iter(secrets_in(self._secret)), None))
        label = re.sub(r"[^A-Za-z0-9-]", "-", said.name)[:LABEL_CHARS_MAX] + "-" + tag[:12]
        return AsyncServiceInfo(
            SERVICE,
            f"{label}.{SERVICE}",
            port=port,
            server=f"{label}.local.",
            parsed_addresses=self._hosts(host),
            properties={
                "cluster": said.cluster,
                "node": said.name,
                "incarnation": said.incarnation,
                "version": str(said.protocol_version),
                "tag": tag,
            },
        )

    def _hosts(self, host: str) -> list[str]:
        if host == "localhost":
            return ["127.0.0.1"]
        if is_unspecified(host) or not is_near(host):
            return self._interfaces[:ADDRESSES_MAX]
        return [host]

    # ---- again and again ---------------------------------------------------------------------

    def _wait_to_repeat(self) -> None:
        self._again = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self._repeat)

    def _repeat(self) -> None:
        if self._zeroconf is None or self._info is None:
            return
        zeroconf = self._zeroconf.zeroconf
        zeroconf.async_send(zeroconf.generate_service_broadcast(self._info, None))
        self._wait_to_repeat()

    # ---- hearing -----------------------------------------------------------------------------

    def _heard(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        if state_change is ServiceStateChange.Removed:
            return
        info = AsyncServiceInfo(service_type, name)
        # incomplete now means that the rest comes as an update, or with the next announcement
        if info.load_from_cache(zeroconf):
            for sighting in sightings_of(info, self._secret):
                self._on_sighting(sighting)


def _check_multicast(interface: str) -> None:
    """Raise OSError where zeroconf would fail half-way and leave a socket behind."""
    family = socket.AF_INET6 if ":" in interface else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.bind((interface, 0))
        if family == socket.AF_INET:
            group = socket.inet_aton(GROUP) + socket.inet_aton(interface)
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)


def sightings_of(info: AsyncServiceInfo, secret: bytes | None) -> list[Sighting]:
    """What an announcement is worth: nothing, unless it is whole, near and rightly tagged."""
    port = info.port or 0
    cluster, name, tag = (_text(info, key) for key in (b"cluster", b"node", b"tag"))
    if not cluster or not name or not tag or not 0 < port < 65_536:
        return []
    tags = [make_tag(cluster, name, port, each) for each in secrets_in(secret) or (None,)]
    if not any(hmac.compare_digest(tag.encode(), each.encode()) for each in tags):
        log.debug("ignored an announcement of %s with a wrong tag", name)
        return []
    hosts = [host for host in info.parsed_scoped_addresses() if is_near(host)]
    return [Sighting(name, join_address(host, port), cluster) for host in hosts[:ADDRESSES_MAX]]


def _text(info: AsyncServiceInfo, key: bytes) -> str:
    value = info.properties.get(key) or b""
    try:
        text = value.decode() if len(value) <= TEXT_BYTES_MAX else ""
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def make_tag(cluster: str, name: str, port: int, secret: bytes | None) -> str:
    """Proves nothing to a stranger and keeps other clusters' nodes from being dialled."""
    key = hashlib.blake2b(secret, person=b"exkiq mdns key").digest() if secret else b""
    said = "\0".join((cluster, name, str(port))).encode()
    return hashlib.blake2b(said, key=key, digest_size=TAG_BYTES, person=b"exkiq mdns").hexdigest()
