"""Whether SQLite's log of a file was damaged, which SQLite itself takes for its end.

A log is good up to the first frame whose checksum is wrong. After a crash that is in the last
commit, which nobody was told of, since each is on the disk before the next one begins. With the
ends of two commits behind it, it is damage, and what was acknowledged would be lost unsaid.

The format is that of https://www.sqlite.org/fileformat2.html#walformat.
"""

from __future__ import annotations

import fcntl
import struct
from collections.abc import Iterator
from pathlib import Path

HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
LITTLE_ENDIAN, BIG_ENDIAN = 0x377F0682, 0x377F0683
LOCKS_AT, LOCKS_BYTES = 0x40000000, 512  # where whoever uses the file has a lock
PAGE_BYTES_MIN, PAGE_BYTES_MAX = 512, 65_536

COMMITS_IN_DOUBT = 1

Sums = tuple[int, int]


def is_log_damaged(path: Path) -> bool:
    """Whether commits of that file cannot be read that were on the disk; asked before it is opened.

    False for a file that another process uses: its log is being written.
    """
    log = path.with_name(path.name + "-wal")
    if not path.is_file() or not log.is_file() or not log.stat().st_size:
        return False
    if not _is_damaged(memoryview(log.read_bytes())):
        return False
    with path.open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, LOCKS_BYTES, LOCKS_AT)
        except OSError:
            return False
        return _is_damaged(memoryview(log.read_bytes()))  # nobody writes it


def _is_damaged(data: memoryview) -> bool:
    header = data[:HEADER_BYTES]
    if len(header) < HEADER_BYTES or not any(header):
        return False  # cut off while it was begun
    magic, _, page_bytes, _, *salts, one, two = struct.unpack(">8I", header)
    words = "<" if magic == LITTLE_ENDIAN else ">"
    sums = _summed(header[:24], (0, 0), words)
    is_known = magic in (LITTLE_ENDIAN, BIG_ENDIAN)
    is_page = PAGE_BYTES_MIN <= page_bytes <= PAGE_BYTES_MAX
    if not is_known or not is_page or sums != (one, two):
        return len(data) > HEADER_BYTES
    is_good, unread = True, 0
    for frame in _frames(data[HEADER_BYTES:], page_bytes + FRAME_HEADER_BYTES):
        _, size_after_commit, *its_salts, one, two = struct.unpack(">6I", frame[:24])
        if is_good:
            sums = _summed(frame[:8], sums, words)
            sums = _summed(frame[FRAME_HEADER_BYTES:], sums, words)
            is_good = its_salts == salts and sums == (one, two)
        if not is_good and its_salts == salts and size_after_commit:
            unread += 1
    return unread > COMMITS_IN_DOUBT


def _frames(data: memoryview, size: int) -> Iterator[memoryview]:
    for start in range(0, len(data) - size + 1, size):
        yield data[start : start + size]


def _summed(data: memoryview, before: Sums, words: str) -> Sums:
    one, two = before
    for first, second in struct.iter_unpack(words + "2I", data):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
