"""The file that holds the cluster's secret."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from exkiq.wire.shared_secrets import SECRETS_MAX, secrets_in

SECRET_BYTES_MIN = 32  # as many as the HMAC's hash has: a shorter key is the weakest part
SECRET_BYTES_MAX = 4_096  # a key, not a document


def read_secret_file(path: Path) -> bytes:
    """The secret in `path` without the newline at its end.

    Errors: ValueError that names the file and what is wrong with it; never its content.
    """
    try:
        with path.open("rb") as file:
            check_private(path, file.fileno())
            secret = file.read(SECRET_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    return _checked(path, secret.removesuffix(b"\n").removesuffix(b"\r"))


def check_private(path: Path, descriptor: int) -> None:
    """Only its owner may have this open file. Errors: ValueError naming it; OSError."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path} is not a file")
    if os.name != "posix":
        return
    if status.st_uid not in (0, os.geteuid()):
        raise ValueError(f"{path} belongs to another user")
    if status.st_mode & 0o077:
        raise ValueError(
            f"{path} can be read by others (mode {stat.S_IMODE(status.st_mode):04o});"
            f" run: chmod 600 {path}"
        )


def _checked(path: Path, secret: bytes) -> bytes:
    fault = fault_of(secret)
    if fault:
        raise ValueError(f"{path} {fault}")
    if len(secret) > SECRET_BYTES_MAX:
        raise ValueError(f"{path} holds more than {SECRET_BYTES_MAX} bytes, that is no secret")
    if b"\0" in secret:
        raise ValueError(f"{path} holds a zero byte, which no environment variable can carry")
    return secret


def fault_of(secret: bytes) -> str:
    """What is wrong with the secret's length, or with one of several; "" for nothing."""
    secrets = secrets_in(secret) or (b"",)
    if len(secrets) > SECRETS_MAX:
        return f"holds {len(secrets)} lines, each a secret; at most {SECRETS_MAX} are accepted"
    for number, each in enumerate(secrets, 1):
        if len(each) < SECRET_BYTES_MIN:
            where = f" in line {number}" if len(secrets) > 1 else ""
            return f"holds {len(each)} bytes{where}, at least {SECRET_BYTES_MIN} are needed"
    return ""
