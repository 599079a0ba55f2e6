"""`config/exkiq.toml` holds every setting as the code has it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from exkiq.config import SETTINGS, from_command_line
from exkiq.config.table import Place
from tests.config.example import example_file

FILE = Path(__file__).resolve().parents[2] / "config" / "exkiq.toml"


def test_the_file_says_what_the_code_does():
    """A setting, a default or a sentence changed in the code and not in the file.

    Mended by: python -c "from tests.config.example import *; print(example_file(), end='')"
    """
    assert example_file() == FILE.read_text()


def test_the_file_can_be_used_as_it_is(tmp_path):
    """Someone who starts from the file would be refused, or get other settings."""
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    assert from_command_line({}, environ) == from_command_line({}, environ, FILE)


def test_the_file_names_every_setting_that_a_file_may_hold():
    """The comparison above would agree with an empty file if the table were empty."""
    text = FILE.read_text()
    named = {setting.name for setting in SETTINGS if Place.FILE in setting.places}
    assert len(named) >= 20
    assert set(tomllib.loads(text)) <= named
    assert {name for name in named if f"\n{name} =" in text or f"\n# {name} =" in text} == named
