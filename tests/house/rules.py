"""The habits of the house that no linter knows, as rules over syntax trees.

A rule is given one module and yields the faults it finds, as (line, what to write instead).
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

CLOCK_READS = {
    "time": ("time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns"),
    "datetime": ("now", "utcnow", "today"),
    "date": ("today",),
}
CHANCE = ("random", "secrets", "uuid")
CODE_LOADERS = ("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve")
VAGUE_NAMES = ("utils", "util", "helpers", "helper", "common", "misc", "manager", "core")

# Tests of these rooms run in real processes or over real sockets and may wait for them.
REAL_TIME_TESTS = (
    "api",
    "cli",
    "cluster",
    "discovery",
    "faults",
    "links",
    "pool",
    "readme",
    "rows",
    "server",
)

Fault = tuple[int, str]


@dataclass(frozen=True)
class Module:
    """One file: where it stands (relative to the project), its text and its tree."""

    path: PurePosixPath
    text: str
    tree: ast.Module

    @property
    def is_product(self) -> bool:
        return self.path.parts[0] == "exkiq"

    def is_one_of(self, *paths: str) -> bool:
        """Whether it is one of these files, or below one of these folders (`name/`)."""
        own = str(self.path)
        return any(own == path or (path[-1] == "/" and own.startswith(path)) for path in paths)


def read_module(path: str, text: str) -> Module:
    """A module as if `text` stood at `path`."""
    return Module(PurePosixPath(path), text, ast.parse(text))


def all_modules() -> list[Module]:
    """Every Python file of the project."""
    files = [file for top in ("exkiq", "tests", "scripts") for file in (ROOT / top).rglob("*.py")]
    return [
        read_module(file.relative_to(ROOT).as_posix(), file.read_text()) for file in sorted(files)
    ]


def _dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or attribute; empty parts for what is neither."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return ""


def _calls(module: Module) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            yield node, _dotted(node.func)


def _imports(module: Module) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(line, imported module, names taken from it) of each import."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ()
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.lineno, node.module or "", tuple(alias.name for alias in node.names)


def clocks(module: Module) -> Iterator[Fault]:
    """Only the clock module reads a clock."""
    if not module.is_product or module.is_one_of("exkiq/clock.py"):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute):
            owner = _dotted(node.value).rpartition(".")[2]
            if node.attr in CLOCK_READS.get(owner, ()):
                yield node.lineno, f"{owner}.{node.attr}: take a Clock or now_ms"
    for line, source, names in _imports(module):
        if source == "time" and set(names) & set(CLOCK_READS["time"]):
            yield line, "from time import: take a Clock or now_ms"


def chance(module: Module) -> Iterator[Fault]:
    """Only those who build a node or a client draw lots, and hand the source down."""
    builders = ("exkiq/node.py", "exkiq/assembly.py", "exkiq/client.py")
    if not module.is_product or module.is_one_of(*builders):
        return
    for line, source, names in _imports(module):
        if source.partition(".")[0] in CHANCE or (source == "os" and "urandom" in names):
            yield line, f"{source}: take a source of chance as an argument"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and _dotted(node) == "os.urandom":
            yield node.lineno, "os.urandom: take a source of chance as an argument"


def loose_tasks(module: Module) -> Iterator[Fault]:
    """A task has an owner: a TaskGroup, or the Tasks of the service module."""
    if not module.is_product or module.is_one_of("exkiq/service.py"):
        return
    groups = set(_task_groups(module.tree))
    for call, name in _calls(module):
        owner, _, verb = name.rpartition(".")
        if isinstance(call.func, ast.Attribute):
            verb = call.func.attr
        if verb in ("create_task", "ensure_future") and owner not in groups:
            yield call.lineno, f"{verb}: use a TaskGroup or Tasks.start"


def _task_groups(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncWith):
            for item in node.items:
                made = item.context_expr
                is_group = isinstance(made, ast.Call) and _dotted(made.func).endswith("TaskGroup")
                if is_group and item.optional_vars is not None:
                    yield _dotted(item.optional_vars)


def swallowed_errors(module: Module) -> Iterator[Fault]:
    """A broad except names the error, logs it, or raises."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if node.type is None:
            yield node.lineno, "bare except: name the error"
        elif _is_broad(node.type) and not _says_something(node.body):
            yield node.lineno, "broad except that says nothing: name the error, or log it"


def _is_broad(caught: ast.expr) -> bool:
    items = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(_dotted(item) in ("Exception", "BaseException") for item in items)


def _says_something(body: list[ast.stmt]) -> bool:
    nodes = [node for statement in body for node in ast.walk(statement)]
    return any(isinstance(node, ast.Raise | ast.Call) for node in nodes)


def prints(module: Module) -> Iterator[Fault]:
    """Only the command line and the scripts print."""
    if not module.is_product or module.is_one_of("exkiq/cli/"):
        return
    for call, name in _calls(module):
        if name in ("print", "sys.stdout.write", "sys.stderr.write"):
            yield call.lineno, f"{name}: use telemetry.log"


def code_from_data(module: Module) -> Iterator[Fault]:
    """No data ever becomes code."""
    if not module.is_product:
        return
    for line, source, _ in _imports(module):
        if source.partition(".")[0] in CODE_LOADERS:
            yield line, f"{source}: use the wire codec"
    for call, name in _calls(module):
        if name in ("eval", "exec", "compile", "builtins.eval", "builtins.exec"):
            yield call.lineno, f"{name}: use the wire codec"


def asserts(module: Module) -> Iterator[Fault]:
    """A check at run time must not vanish under `python -O`."""
    if not module.is_product:
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assert):
            yield node.lineno, "assert: raise an error of the house"


def sleeps(module: Module) -> Iterator[Fault]:
    """A test of a room without real time moves a manual clock."""
    parts = module.path.parts
    if parts[0] != "tests" or (len(parts) > 2 and parts[1] in REAL_TIME_TESTS):
        return
    for call, name in _calls(module):
        if name.rpartition(".")[2] == "sleep" and not _yields_only(call):
            yield call.lineno, "sleep: use the manual clock or wait for an event"


def _yields_only(call: ast.Call) -> bool:
    """`asyncio.sleep(0)` gives the loop a turn and waits for no time."""
    return [ast.unparse(argument) for argument in call.args] == ["0"]


def left_overs(module: Module) -> Iterator[Fault]:
    """Nothing is left for later in the text."""
    words = re.compile(r"\b(?:TODO|FIXME|XXX|HACK)\b")
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT and words.search(token.string):
            yield token.start[0], "left over: do it now or leave it out"


def sizes(module: Module) -> Iterator[Fault]:
    """A file or function beyond these sizes holds two things."""
    lines = module.text.count("\n")
    if lines > FILE_LINES_MAX:
        yield lines, f"{lines} lines: ask what two things it holds"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield node.lineno, f"{node.name} has {length} lines: look for the hidden noun"


def vague_names(module: Module) -> Iterator[Fault]:
    """A module is called after what it is."""
    vague = set(VAGUE_NAMES) & {part.removesuffix(".py") for part in module.path.parts}
    for name in sorted(vague):
        yield 1, f"{name}: find the noun"


RULES: tuple[Callable[[Module], Iterator[Fault]], ...] = (
    clocks,
    chance,
    loose_tasks,
    swallowed_errors,
    prints,
    code_from_data,
    asserts,
    sleeps,
    left_overs,
    sizes,
    vague_names,
)


# Started by a person or by pip, not by an import.
ENTRANCES = ("exkiq", "exkiq.__main__", "exkiq.cli", "exkiq.cli.run_job_app")


def unused_modules(modules: list[Module]) -> set[str]:
    """Modules of the product that nothing imports, starts by name, or offers."""
    names = {_module_name(module): module for module in modules if module.is_product}
    reached: set[str] = set(ENTRANCES)
    for own, module in names.items():
        for name in _mentions(module):
            if name != own:  # a folder is reached by what is in it
                reached |= {name[:end] for end, letter in enumerate(name + ".") if letter == "."}
    return set(names) - reached


def _module_name(module: Module) -> str:
    parts = module.path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _mentions(module: Module) -> Iterator[str]:
    for _, source, names in _imports(module):
        yield source
        yield from (f"{source}.{name}" for name in names)
    for node in ast.walk(module.tree):
        # a module may also be started by an import string, `module` or `module:name`
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value.partition(":")[0]
