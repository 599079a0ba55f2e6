"""The house keeps its habits, and each rule notices when one is broken."""

from __future__ import annotations

import pytest

from tests.house import rules

PRODUCT = "exkiq/queues/local.py"
TEST = "tests/machine/test_order.py"

BROKEN = [
    ("clocks", PRODUCT, "import time\nnow = time.monotonic()"),
    ("clocks", PRODUCT, "from time import time_ns\nnow = time_ns()"),
    ("clocks", PRODUCT, "import datetime\nnow = datetime.datetime.now()"),
    ("clocks", PRODUCT, "clock = time.time"),
    ("chance", PRODUCT, "import random"),
    ("chance", PRODUCT, "from uuid import uuid4"),
    ("chance", PRODUCT, "import os\nnonce = os.urandom(16)"),
    ("chance", PRODUCT, "from os import urandom"),
    ("loose_tasks", PRODUCT, "asyncio.create_task(work())"),
    ("loose_tasks", PRODUCT, "asyncio.get_running_loop().create_task(work())"),
    ("loose_tasks", PRODUCT, "self.loop.create_task(work())"),
    ("loose_tasks", PRODUCT, "asyncio.ensure_future(work())"),
    ("swallowed_errors", PRODUCT, "try:\n    go()\nexcept:\n    log.error('x')"),
    ("swallowed_errors", PRODUCT, "try:\n    go()\nexcept Exception:\n    pass"),
    ("swallowed_errors", TEST, "try:\n    go()\nexcept (OSError, BaseException):\n    x = 1"),
    ("prints", PRODUCT, "print('hello')"),
    ("prints", PRODUCT, "import sys\nsys.stderr.write('hello')"),
    ("code_from_data", PRODUCT, "import pickle"),
    ("code_from_data", PRODUCT, "from marshal import loads"),
    ("code_from_data", PRODUCT, "eval('1 + 1')"),
    ("code_from_data", "exkiq/cli/show.py", "exec('x = 1')"),
    ("asserts", PRODUCT, "assert ready"),
    ("sleeps", TEST, "import time\ntime.sleep(0.1)"),
    ("sleeps", "tests/raft/test_x.py", "async def test():\n    await asyncio.sleep(1)"),
    ("left_overs", PRODUCT, "x = 1  # " + "TODO: later"),
    ("sizes", PRODUCT, "x = 1\n" * 401),
    ("sizes", PRODUCT, "def long():\n" + "    x = 1\n" * 60),
    ("vague_names", "exkiq/queues/utils.py", ""),
    ("vague_names", "exkiq/common/x.py", ""),
]

CLEAN = [
    ("exkiq/clock.py", "import time\nnow = time.monotonic()"),
    (PRODUCT, "now = clock.monotonic()"),
    (PRODUCT, "from time import struct_time"),
    ("exkiq/node.py", "import random"),
    ("exkiq/service.py", "asyncio.create_task(work())"),
    (
        PRODUCT,
        "async def f():\n    async with asyncio.TaskGroup() as tg:\n        tg.create_task(g())",
    ),
    (PRODUCT, "try:\n    go()\nexcept OSError:\n    pass"),
    (PRODUCT, "try:\n    go()\nexcept Exception:\n    log.exception('x')"),
    (PRODUCT, "try:\n    go()\nexcept BaseException:\n    raise"),
    ("exkiq/cli/show.py", "print('hello')"),
    ("scripts/demo.py", "print('hello')\nassert True"),
    (PRODUCT, "console.print('hello')"),
    (PRODUCT, "re.compile('x')"),
    (TEST, "assert 1"),
    (TEST, "async def test():\n    await asyncio.sleep(0)"),
    ("tests/pool/test_x.py", "import time\ntime.sleep(0.1)"),
    (PRODUCT, "x = 1\n" * 400),
    (PRODUCT, "def long():\n" + "    x = 1\n" * 59),
]


@pytest.fixture(scope="module")
def modules() -> list[rules.Module]:
    return rules.all_modules()


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_house_is_tidy(rule, modules):
    """Some file breaks a habit that keeps the code testable, safe or readable."""
    faults = [
        f"{module.path}:{line}: {fault}" for module in modules for line, fault in rule(module)
    ]
    assert not faults, "\n".join(faults)


def test_no_module_is_left_over(modules):
    """A module that nothing reaches is dead code that still has to be read."""
    assert rules.unused_modules(modules) == set()


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_each_rule_notices(rule, path, text):
    """A rule that finds nothing anywhere would pass for a tidy house."""
    found = list(getattr(rules, rule)(rules.read_module(path, text)))
    assert found, text


@pytest.mark.parametrize(("path", "text"), CLEAN)
def test_no_rule_cries_wolf(path, text):
    """A rule that forbids what the house does on purpose would be switched off."""
    module = rules.read_module(path, text)
    assert [fault for rule in rules.RULES for fault in rule(module)] == []


def test_a_module_that_nobody_imports_is_noticed():
    """The search for left-overs would pass everything."""
    used = rules.read_module("exkiq/errors.py", "")
    started = rules.read_module("exkiq/task.py", "")
    lonely = rules.read_module("exkiq/lonely.py", "import exkiq.lonely")
    user = rules.read_module("exkiq/cli/__init__.py", "import exkiq.errors\nx = 'exkiq.task:load'")
    assert rules.unused_modules([used, started, lonely, user]) == {"exkiq.lonely"}
