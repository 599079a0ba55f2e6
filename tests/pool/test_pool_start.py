"""What is said when an APP cannot be loaded."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from exkiq.errors import ConfigError
from exkiq.pool.loading import load
from tests.pool.harness import LOADER, Box, make_pool


def test_the_start_of_a_node_says_why_its_app_cannot_be_imported(tmp_path: Path) -> None:
    """A newcomer's first typing error would be a traceback, or a node that does nothing."""

    async def main() -> None:
        pool = make_pool(
            Box(), processes=2, app=("nowhere",), sys_path=[str(tmp_path)], cwd=str(tmp_path)
        )
        with pytest.raises(ConfigError) as caught:
            await pool.start()
        assert str(caught.value) == f"cannot import 'nowhere': no such module in {tmp_path}"
        assert pool.free == 0
        await pool.stop()

    asyncio.run(main())


def test_an_app_that_kills_its_child_at_import_is_a_config_error(tmp_path: Path) -> None:
    """The node would start its children for ever."""
    (tmp_path / "deadly_app.py").write_text("import os; os._exit(5)")

    async def main() -> None:
        pool = make_pool(Box(), app=("deadly_app",), sys_path=[str(tmp_path)])
        with pytest.raises(ConfigError, match="exit code 5"):
            await pool.start()

    asyncio.run(main())


def test_a_pool_without_slots_starts_no_children() -> None:
    """A node that only replicates would need an APP."""

    async def main() -> None:
        pool = make_pool(Box(), concurrency=0, app=("nowhere",))
        await pool.start()
        assert (pool.free, pool.queues) == (0, ())
        await pool.stop()

    asyncio.run(main())


def test_a_folder_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    """The system's refusal to start a process would come out raw."""

    async def main() -> None:
        pool = make_pool(Box(), cwd=str(tmp_path / "missing"))
        with pytest.raises(ConfigError, match="cannot start a child process"):
            await pool.start()

    asyncio.run(main())


CASES = {
    "raises.py": (
        "x = 1\nraise ValueError('no database')\n",
        r"cannot import 'raises': ValueError: no database \(.*raises\.py, line 2: raise Value.*\)",
    ),
    "leaves.py": ("import sys\nsys.exit('bye')\n", r"cannot import 'leaves': SystemExit: bye .*"),
    "wrong.py": (
        "def f(:\n    pass\n",
        r"cannot import 'wrong': SyntaxError: invalid syntax \(wrong\.py, line 1\)",
    ),
    "lacks.py": (
        "import not_installed\n",
        r"cannot import 'lacks': ModuleNotFoundError: No module named 'not_installed' "
        r"\(.*lacks\.py, line 1: import not_installed\)",
    ),
    "empty.py": ("", r"'empty' defines no worker and no task"),
    "refused.py": (
        "from exkiq import Worker\n\nclass Mail(Worker, quue='emails'): ...\n",
        r"cannot import 'refused': TypeError: Mail: unknown option 'quue'; there are .*"
        r"\(.*refused\.py, line 3: class Mail\(.*\)",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_each_cause_is_named_with_its_module(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message would not say what to mend."""
    text, expected = CASES[name]
    (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigError) as caught:
        load([name.removesuffix(".py")], LOADER, str(tmp_path))

    assert re.fullmatch(expected, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("module", ["absent", "absent.part"])
def test_an_absent_module_is_told_with_the_folder(module: str) -> None:
    """The most common mistake, the wrong folder, would not be recognised."""
    with pytest.raises(ConfigError, match="cannot import 'absent': no such module in /some/where"):
        load([module], LOADER, "/some/where")


@pytest.mark.parametrize("loader", ["nowhere:load_app", "tests.pool.pool_loader:nothing", ":"])
def test_a_loader_that_is_not_there_is_told(loader: str) -> None:
    """Our own mistake would look like the user's."""
    with pytest.raises(ConfigError, match="loader"):
        load(["x"], loader, ".")
