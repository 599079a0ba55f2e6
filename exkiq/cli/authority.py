"""A certificate authority in a folder: the only user of the package cryptography.

A node's certificate names the node as DNS name and serves on both ends of a connection. A
client's has no DNS name, and a common name that no node can have; it only dials.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID as Use
from cryptography.x509.oid import NameOID

from exkiq.errors import ConfigError

CA_DAYS = 3_650
EARLY = timedelta(hours=1)  # clocks of other machines may be behind
PUBLIC, PRIVATE = 0o644, 0o600

_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
    "key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


class Authority:
    """The CA of one cluster.

    Duties: make it once; sign certificates for nodes and clients; write keys for their owner's
    eyes only, and nothing over what is there.
    """

    def __init__(self, folder: Path, now: datetime) -> None:
        self._folder = folder
        self._now = now
        self.path, self._key_path = folder / "ca.pem", folder / "ca.key"

    def found(self) -> list[Path]:
        """Make the folder, the CA's key and certificate. Errors: ConfigError, OSError."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        name = _named("exkiq CA")
        certificate = (
            self._builder(key, name, name, timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            .sign(key, hashes.SHA256())
        )
        return _write_both(self.path, certificate, self._key_path, key)

    def sign_node(self, name: str, days: int) -> list[Path]:
        """Certificate and key of the node `name`. Errors: ConfigError, OSError."""
        uses = [Use.SERVER_AUTH, Use.CLIENT_AUTH]
        return self._sign(name, name, uses, days, [x509.DNSName(name)])

    def sign_client(self, name: str, days: int) -> list[Path]:
        """Certificate and key of clients, kept as `name`. Errors: ConfigError, OSError."""
        return self._sign(name, f"client {name}", [Use.CLIENT_AUTH], days, [])

    def _sign(
        self,
        file: str,
        common_name: str,
        uses: Iterable[x509.ObjectIdentifier],
        days: int,
        names: list[x509.GeneralName],
    ) -> list[Path]:
        ca, ca_key = self._read()
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            self._builder(key, _named(common_name), ca.subject, timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(ca_key, hashes.SHA256())
        path = self._folder / f"{file}.pem"
        return _write_both(path, certificate, path.with_name(f"{file}.key"), key)

    def _builder(
        self,
        key: ec.EllipticCurvePrivateKey,
        subject: x509.Name,
        issuer: x509.Name,
        life: timedelta,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now - EARLY)
            .not_valid_after(self._now + life)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
        )

    def _read(self) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
        try:
            certificate = x509.load_pem_x509_certificate(self.path.read_bytes())
            key = serialization.load_pem_private_key(self._key_path.read_bytes(), None)
        except FileNotFoundError as error:
            raise ConfigError(
                f"{error.filename} is not there; make a CA first: exkiq certs init {self._folder}"
            ) from error
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{self._folder} holds no CA that exkiq made: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError(f"{self._key_path} is no key that exkiq made")
        return certificate, key


def clock_time(now_ms: int) -> datetime:
    """Milliseconds as a moment."""
    return datetime.fromtimestamp(now_ms // 1000, UTC)


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*granted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in granted for usage in _USAGES})


def _write_both(
    path: Path, certificate: x509.Certificate, key_path: Path, key: ec.EllipticCurvePrivateKey
) -> list[Path]:
    for each in (path, key_path):
        if each.exists():
            raise ConfigError(f"{each} is there already, and is not written over")
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _write(key_path, private, PRIVATE)
    _write(path, certificate.public_bytes(serialization.Encoding.PEM), PUBLIC)
    return [path, key_path]


def _write(path: Path, content: bytes, mode: int) -> None:
    # made with its mode, so that there is no moment in which others could open it
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
