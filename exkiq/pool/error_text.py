"""An exception as the three bounded texts that a job keeps of it."""

from __future__ import annotations

import traceback
from pathlib import Path
from types import FrameType, TracebackType

from exkiq.machine import limits

# Deeper stacks are cut before they are formatted: formatting costs, and the end tells.
FRAMES_MAX = 50

OUR_FOLDER = str(Path(__file__).resolve().parent.parent) + "/"


def error_row(error: BaseException) -> list[str]:
    """[type, message, traceback], each bounded and fit for UTF-8."""
    name = clean(type(error).__name__)[: limits.ERROR_TYPE_CHARS_MAX]
    return [name, cut_message(message_of(error)), cut_traceback(traceback_of(error))]


def message_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as worse:  # noqa: BLE001 - user code in __str__; it is told in its place
        return f"(its message cannot be shown: str() raised {type(worse).__name__})"


def traceback_of(error: BaseException) -> str:
    """The traceback from the first line that is not ours."""
    try:
        lines = traceback.format_exception(
            type(error), error, user_part(error.__traceback__), limit=-FRAMES_MAX
        )
    except BaseException as worse:  # noqa: BLE001 - as above
        return f"(its traceback cannot be shown: {type(worse).__name__})"
    return "".join(lines)


def user_part(trace: TracebackType | None) -> TracebackType | None:
    """`trace` without the leading frames of exkiq."""
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(OUR_FOLDER):
        trace = trace.tb_next
    return trace


def stack_of(frame: FrameType) -> str:
    """Where a thread is at this moment, from the first line of the user's."""
    stack = traceback.extract_stack(frame)
    ours = [i for i, line in enumerate(stack) if line.filename.startswith(OUR_FOLDER)]
    lines = stack[ours[-1] + 1 if ours else 0 :][-FRAMES_MAX:]
    return "Stack (most recent call last):\n" + "".join(traceback.format_list(lines))


def cut_message(text: str) -> str:
    """The start of a message, and that something is missing."""
    text = clean(text)
    if len(text) <= limits.ERROR_MESSAGE_CHARS_MAX:
        return text
    return text[: limits.ERROR_MESSAGE_CHARS_MAX - 4] + " ..."


def cut_traceback(text: str) -> str:
    """The end of a traceback: that is where the error is."""
    data = clean(text).encode()
    if len(data) <= limits.TRACEBACK_BYTES_MAX:
        return data.decode()
    return "...\n" + data[-(limits.TRACEBACK_BYTES_MAX - 4) :].decode(errors="ignore")


def clean(text: str) -> str:
    """`text` with what UTF-8 cannot carry spelled out."""
    return text.encode(errors="backslashreplace").decode()
