"""Where the nodes and the clients of one machine meet: a Unix socket for each node.

    $XDG_RUNTIME_DIR/exkiq/<cluster>/<node>.sock     where a session has such a folder
    /tmp/exkiq-<uid>/<cluster>/<node>.sock           elsewhere, and where that path is too long

Who can write there can pose as a node, so a folder of somebody else is never used.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from exkiq.errors import ConfigError

SUFFIX = ".sock"

# `sun_path` holds 108 bytes on Linux and 104 elsewhere, with the zero at its end.
SOCKET_PATH_BYTES_MAX = 103

# A longer name is cut and given a digest, so that cluster, node and suffix stay below that.
PART_BYTES_MAX = 24


def runtime_folder(cluster: str) -> Path:
    """The folder of the cluster's sockets for this user; it need not be there."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    part = _part(cluster)
    # a relative path there is to be ignored: XDG Base Directory Specification
    if not Path(given).is_absolute():
        return _fallback() / part
    folder = Path(given) / "exkiq" / part
    if len(os.fsencode(folder)) + len("/") + PART_BYTES_MAX + len(SUFFIX) > SOCKET_PATH_BYTES_MAX:
        return _fallback() / _cut(part, os.fsencode(folder))
    return folder


def _fallback() -> Path:
    return Path(f"/tmp/exkiq-{os.getuid()}")  # noqa: S108 - its owner is checked


def socket_path(cluster: str, node: str) -> Path:
    """The socket of the node."""
    return runtime_folder(cluster) / (_part(node) + SUFFIX)


def make_runtime_folder(cluster: str) -> Path:
    """The folder, made if it was not there, for this user only.

    Errors: ConfigError when somebody else owns it or can write into it; OSError.
    """
    folder = runtime_folder(cluster)
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(each):
            raise ConfigError(f"{each} belongs to somebody else, or others can write there")
    return folder


def sockets(cluster: str) -> list[Path]:
    """The sockets of the cluster's nodes on this machine, by name; a dead node's may be there."""
    if not hasattr(os, "getuid"):
        return []
    folder = runtime_folder(cluster)
    if not (_is_ours(folder.parent) and _is_ours(folder)):
        return []
    return sorted(folder.glob("*" + SUFFIX))


def _part(name: str) -> str:
    """`name` as one part of a path, short enough, another one for every other name."""
    encoded = name.encode(errors="surrogatepass")
    is_plain = name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    if is_plain and not name.startswith(".") and len(encoded) <= PART_BYTES_MAX:
        return name
    return _cut(name, encoded)


def _cut(name: str, whole: bytes) -> str:
    digest = hashlib.blake2s(whole, digest_size=6).hexdigest()
    kept = "".join(letter for letter in name if letter.isascii() and letter.isalnum())
    return f"{kept[: PART_BYTES_MAX - 13]}-{digest}"


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    is_private = not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and is_private
