"""What a node may be told, from where, and what is refused before anything starts.

    table     every setting once: its name, kind, default and sentence
    plugins   parts that users replace: made, checked, and described for another process
    queue_tables  what is said of one queue in place of what the APP declares
    kinds     how one value is read, and what is allowed
    settings  the checked values a node is built from
    load      precedence, the rules between settings, all faults at once

Nothing here is read while importing; `load` is called by whoever starts a node.
"""

from __future__ import annotations

from exkiq.config.addresses import is_loopback, is_unspecified, split_address
from exkiq.config.load import from_command_line, from_keywords
from exkiq.config.settings import Settings, default_data_dir, default_name
from exkiq.config.table import SETTINGS, Setting

__all__ = [
    "Settings",
    "from_command_line",
    "from_keywords",
    "SETTINGS",
    "Setting",
    "default_name",
    "default_data_dir",
    "is_loopback",
    "is_unspecified",
    "split_address",
]
