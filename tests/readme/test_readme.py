"""Everything the README shows works as it stands there."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import typer

from exkiq.cli import main
from exkiq.cli.entry import tree
from tests.readme.blocks import ROOT, blocks_of, readme_blocks
from tests.readme.newcomer import Newcomer

BLOCKS = readme_blocks()

# Done in their order, by one person.
STORY = ("file", "start", "python", "pytest", "shell", "environment", "stopped")
ALONE = ("scripts", "install", "settings", "usage")


def of_way(*ways):
    blocks = [block for block in BLOCKS if block.way in ways]
    assert blocks, ways
    return pytest.mark.parametrize("block", blocks, ids=lambda block: f"line {block.line}")


def test_every_block_says_how_it_is_tested():
    """A block could go wrong and nobody notice."""
    assert len(BLOCKS) > 10
    untested = [block.line for block in BLOCKS if block.way not in STORY + ALONE]
    assert untested == []
    assert {block.language for block in BLOCKS} == {"python", "shell"}


def test_a_block_without_a_note_is_found():
    """The test above would pass a block that it does not see."""
    bare = "```shell\nls  # here\n```\n"
    noted = "<!-- test: file a.py -->\n```python\nprint(1)  # 1\n```\n"
    first, second = blocks_of(f"a\n\n{bare}\n{noted}")
    assert (first.way, first.commands) == ("", ["ls"])
    assert (second.way, second.argument, second.expected) == ("file", "a.py", ["1"])


@pytest.mark.timeout(180)
def test_the_readme_can_be_followed():
    """A newcomer would be stuck at the line that is named."""
    folder = Path(tempfile.mkdtemp(prefix="exkiq-readme-"))  # a socket's path must be short
    newcomer = Newcomer(folder)
    try:
        for block in BLOCKS:
            if block.way in STORY:
                newcomer.follow(block)
    finally:
        newcomer.stop()
        shutil.rmtree(folder)


@of_way("scripts")
def test_scripts_are_there_and_can_be_started(block):
    """The first command a newcomer types would fail."""
    for command in block.commands:
        script = ROOT / command.split()[0]
        assert script.stat().st_mode & stat.S_IXUSR, command
        subprocess.run(["/bin/bash", "-n", script], check=True)


@of_way("install")
def test_what_pip_installs_is_the_command(block):
    """`pip install .` would leave no `exkiq` behind."""
    assert block.commands == ["pip install ."]
    (command,) = entry_points(group="console_scripts", name="exkiq")
    assert command.load() is main


@of_way("settings")
def test_the_settings_are_accepted(block, monkeypatch, tmp_path):
    """A node on a LAN would be refused with the flags of the README."""
    started = []
    monkeypatch.setattr("exkiq.node.run", lambda settings: started.append(settings) or 0)
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("EXKIQ_")]:
        monkeypatch.delenv(variable)
    Path("exkiq.secret").write_text("0123456789abcdef" * 4)
    Path("exkiq.secret").chmod(0o600)
    assert main(["certs", "init", "certs"]) == main(["certs", "node", "n1", "certs"]) == 0
    for command in block.commands:
        assert main(shlex.split(command)[1:]) == 0
    assert len(started) == len(block.commands)
    assert {settings.bootstrap_expect for settings in started} == {3}
    assert all(settings.secret and not settings.insecure for settings in started)


@of_way("usage")
def test_the_commands_exist_with_these_arguments(block):
    """A command of the README would be refused as wrong usage."""
    for text in block.commands:
        command = typer.main.get_command(tree)
        name, *arguments = shlex.split(text)
        while getattr(command, "commands", None):
            name = arguments.pop(0)
            command = command.commands[name]
        command.make_context(name, arguments)
