"""What `config/exkiq.toml` must say, written from the table of settings."""

from __future__ import annotations

import textwrap

from exkiq.config import SETTINGS, Setting
from exkiq.config.table import Place

HEAD = """\
# Every setting of a node, with its default.
#
#     exkiq start --config exkiq.toml
#
# A flag (--drain-timeout 30) comes before the environment (EXKIQ_DRAIN_TIMEOUT=30), which comes
# before this file. A setting behind `# ` has a default that depends on the machine, or none; the
# value there is an example. The secret itself is never written here: name its file, or set
# EXKIQ_SECRET.
"""


TAIL = """\
# A queue may have a table of its own, at the end of the file. What it says comes before what the
# modules declare, and the node then serves the queues that are named here. Parts are given as
# "package.module:Class", or as a table with their arguments.
# [queues.emails]
# weight = 3
# paused = false
# dispatcher = "exkiq.dispatchers:LRUNode"
# failure_mode = { use = "exkiq.failure_modes:Retry", args = { times = 3, delay = 10 } }
# success_mode = "exkiq.success_modes:Log"
"""


def example_file() -> str:
    """The whole file."""
    settings = [setting for setting in SETTINGS if Place.FILE in setting.places]
    return "\n".join([HEAD, *(_entry(setting) for setting in settings), TAIL])


def _entry(setting: Setting) -> str:
    sentence = textwrap.fill(
        setting.sentence, 96, initial_indent="# ", subsequent_indent="# ", break_long_words=False
    )
    if setting.default_text:
        comment = f"{sentence}\n# Default: {setting.default_text}."
        return f"{comment}\n# {setting.name} = {setting.example}\n"
    return f"{sentence}\n{setting.name} = {_toml(setting.default)}\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else f"{value}"
