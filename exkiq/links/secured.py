"""TLS between a socket and what speaks over it: the standard library's, driven by hand.

asyncio's own layer drops a connection that fails without the alert that would tell the other
side why, and has no answer for a peer that speaks no TLS at all. Here both sides learn it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from exkiq.config.certificates import Certificates, names_in
from exkiq.errors import ClusterMismatch, ExkiqError, RemoteWireError
from exkiq.wire.handshake import refusal

READ_BYTES = 262_144
HANDSHAKE = 0x16  # first byte of a connection's first record; ours begin with the 0 of a length
RECORDS = range(0x14, 0x18)  # first bytes of all records

NO_TLS_HERE = "no TLS is set here, one is set there"
NO_TLS_THERE = "TLS is set here, none is set there"


def is_tls(data: bytes) -> bool:
    """Whether a connection that begins like this wants TLS."""
    return data[:1] == bytes([HANDSHAKE])


def _fault_of(error: ssl.SSLError) -> ExkiqError:
    """What to tell: of a certificate on either side, or of bytes that make no sense."""
    reason = str(error.reason or error).replace("_", " ").lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        return ClusterMismatch(f"its certificate is refused here: {error.verify_message}")
    if error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return ClusterMismatch("it shows no certificate")
    if " alert " in f" {reason} ":
        alert = reason.partition("alert ")[2]
        what = "our certificate" if "certificate" in alert or "ca" in alert.split() else "TLS"
        return ClusterMismatch(f"{what} is refused by the other side: {alert}")
    return RemoteWireError(f"what is no TLS 1.3: {reason}")


class Secured(asyncio.Transport, asyncio.Protocol):
    """A transport to whoever uses it, a protocol to the socket's transport.

    Duties: shake hands and have the peer's certificate checked; tell `on_secured` the names that
    it proves; en- and decrypt from then on; end with an alert, or a refusal that a peer without
    TLS can read. `connection_lost` is given an ExkiqError for what went wrong in TLS.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        certificates: Certificates,
        protocol: asyncio.Protocol,
        on_secured: Callable[[frozenset[str]], None],
        *,
        is_dialler: bool,
    ) -> None:
        super().__init__()
        self._below = transport
        self._protocol = protocol
        self._on_secured = on_secured
        self._is_dialler = is_dialler
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = certificates.dialling if is_dialler else certificates.accepting
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=not is_dialler)
        self._is_first = True
        self._is_secured = False
        self._is_faulty = False  # nothing can be written any more
        self._is_ended = False  # nothing is written or read any more
        self._is_told = False  # the protocol knows that it is over

    def begin(self) -> None:
        """Take over the socket's transport."""
        self._below.set_protocol(self)
        if self._is_dialler:
            self._shake()

    # ---- from the socket -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._is_ended:
            return
        if self._is_first and data[0] not in (RECORDS if self._is_dialler else (HANDSHAKE,)):
            self._refuse_plain()
            return
        self._is_first = False
        self._incoming.write(data)
        try:
            if not self._is_secured:
                self._shake()
            if self._is_secured:
                self._read()
        except ssl.SSLError as error:
            self._flush()  # the alert
            self._fail(_fault_of(error))

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        self._flush()
        self._is_secured = True
        self._on_secured(names_in(self._tls.getpeercert()))

    def _read(self) -> None:
        parts: list[bytes] = []
        fault: ssl.SSLError | None = None
        try:
            while not self._is_ended and (part := self._tls.read(READ_BYTES)):
                parts.append(part)
        except ssl.SSLWantReadError:
            self._flush()  # keys may have been changed
        except ssl.SSLError as error:
            fault = error
            self._is_faulty = True
        if parts:
            self._protocol.data_received(b"".join(parts))
        if fault is not None and not self._is_ended:
            raise fault

    def _refuse_plain(self) -> None:
        if not self._is_dialler:
            self._below.write(refusal(NO_TLS_THERE))
        self._fail(ClusterMismatch(NO_TLS_THERE))

    def _fail(self, error: ExkiqError) -> None:
        self._is_ended = True
        self._below.close()
        self._tell(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_ended = True
        self._tell(exc)

    def _tell(self, error: Exception | None) -> None:
        if not self._is_told:
            self._is_told = True
            self._protocol.connection_lost(error)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    # ---- from whoever uses it ------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_ended or self._is_faulty:
            return
        with memoryview(data) as view:
            written = 0
            while written < len(view):
                written += self._tls.write(view[written:])  # one record at most
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self._below.write(self._outgoing.read())

    def write_eof(self) -> None:
        self._say_goodbye()
        self._below.write_eof()

    def close(self) -> None:
        self._say_goodbye()
        self._below.close()

    def _say_goodbye(self) -> None:
        if self._is_ended:
            return
        self._is_ended = True
        if self._is_secured:
            with suppress(ssl.SSLError):  # it does not wait for the peer's
                self._tls.unwrap()
            self._flush()

    def abort(self) -> None:
        self._is_ended = True
        self._below.abort()

    def is_closing(self) -> bool:
        return self._below.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError("a protocol of streams is needed")
        self._protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._below.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._below.set_write_buffer_limits(high, low)
