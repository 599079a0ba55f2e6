"""What is done about a job that succeeded, beside keeping its value."""

from exkiq.success_modes.log import Log
from exkiq.success_modes.mode import Success, SuccessMode

__all__ = ["SuccessMode", "Success", "Log"]
