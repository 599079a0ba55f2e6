"""The mode that writes a line."""

from __future__ import annotations

from dataclasses import dataclass

from exkiq.success_modes.mode import Success, SuccessMode
from exkiq.telemetry import log

VALUE_CHARS_MAX = 100


@dataclass(frozen=True, slots=True)
class Log(SuccessMode):
    """Writes how long the job waited, how long it ran, and its value, shortened."""

    def succeeded(self, success: Success) -> None:
        log.info(
            "job %s (%s) succeeded: waited %.3f s, ran %.3f s, value %s",
            success.id,
            success.task,
            success.waited_ms / 1000,
            success.run_ms / 1000,
            _shortened(success.value),
            extra={"exkiq_job": success.id},
        )


def _shortened(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."
