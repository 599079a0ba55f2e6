"""The files of mutual TLS: our certificate, its key, and the CA that signed everybody's.

Only the standard library's TLS 1.3, and only certificates of the CA in the file: those of the
system vouch for web sites, not for members of a cluster.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from exkiq.config.secret import check_private

NAMES_MAX = 16  # of one certificate; a node has one name
NAME_CHARS_MAX = 253  # of a DNS name
FLIGHTS_MAX = 4  # of a handshake with oneself

FILES = ("tls_cert", "tls_key", "tls_ca")
TlsFiles: TypeAlias = tuple[str | Path, str | Path, str | Path]  # in that order


@dataclass(frozen=True, slots=True)
class Certificates:
    """One side of mutual TLS.

    `files` are certificate, key and CA as `load` was given them, `names` those that our own
    certificate proves.
    """

    files: tuple[Path, Path, Path]
    names: frozenset[str]
    dialling: ssl.SSLContext = field(repr=False)
    accepting: ssl.SSLContext = field(repr=False)


def names_in(certificate: Mapping[str, Any] | None) -> frozenset[str]:
    """The DNS names of a certificate as `getpeercert` gives it; without any its common name."""
    if not certificate:
        return frozenset()
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    if not names:
        subject = [pair for part in certificate.get("subject", ()) for pair in part]
        names = [value for kind, value in subject if kind == "commonName"]
    # printable, because they end up in log lines
    fit = [name for name in names if name.isprintable() and len(name) <= NAME_CHARS_MAX]
    return frozenset(fit[:NAMES_MAX])


def load_given(given: Mapping[str, Any]) -> Certificates | None:
    """`load` for files by the names of `FILES`; None without any.

    Errors: ValueError, also when only some of them are given.
    """
    missing = [name for name in given if not given[name]]
    if len(missing) == len(given):
        return None
    if missing:
        raise ValueError(f"{', '.join(given)} belong together; missing: {', '.join(missing)}")
    return load([Path(path).expanduser() for path in given.values()])


def load(files: Sequence[Path]) -> Certificates:
    """Read certificate, key and CA, and check that they fit together today.

    Errors: ValueError that names the file and what is wrong with it.
    """
    certificate, key, ca = (path.absolute() for path in files)
    for path in (certificate, key, ca):
        _check_readable(path, is_private=path == key)
    dialling = _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, ca)
    accepting = _context(ssl.PROTOCOL_TLS_SERVER, certificate, key, ca)
    accepting.num_tickets = 0  # each link proves itself anew
    probe = _context(ssl.PROTOCOL_TLS_CLIENT, certificate, key, ca)
    probe.verify_mode = ssl.CERT_NONE
    try:
        own = _shaken(accepting, probe)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or str(error.reason)
        raise ValueError(f"{certificate} is no use with {ca}: {reason}") from error
    return Certificates((certificate, key, ca), names_in(own), dialling, accepting)


def _check_readable(path: Path, *, is_private: bool) -> None:
    try:
        with path.open("rb") as file:
            if is_private:
                check_private(path, file.fileno())
            file.read(1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def _context(protocol: int, certificate: Path, key: Path, ca: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # nodes are known by name, whatever address they have
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise ValueError(f"{ca} holds no certificate in PEM format") from error
    try:
        # a password is never asked for: there may be nobody to type it
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"{key} is not the key of {certificate}") from error
        raise ValueError(
            f"{certificate} and {key} are not a certificate and its key in PEM format, "
            "without a password"
        ) from error
    return context


def _shaken(accepting: ssl.SSLContext, dialling: ssl.SSLContext) -> Mapping[str, Any] | None:
    """The dialler's certificate as the acceptor sees it. Errors: SSLError if it is refused."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    dialler = dialling.wrap_bio(back, there)
    acceptor = accepting.wrap_bio(there, back, server_side=True)
    for _ in range(FLIGHTS_MAX):
        for side in (dialler, acceptor):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return acceptor.getpeercert()
