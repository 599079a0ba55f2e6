"""What someone sees who does not know the command line, or makes a mistake."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from exkiq.cli.entry import tree
from exkiq.config import SETTINGS
from exkiq.errors import (
    ClusterMismatch,
    EnqueueTimeout,
    NoNodeError,
    NoQuorum,
    NoSuchJob,
    OutcomeUnknown,
)
from tests.cli.pretend import STATUS


def all_commands(command=None, path=()):
    """Every command with its path, groups included."""
    command = command or typer.main.get_command(tree)
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from all_commands(each, (*path, name))


COMMANDS = dict(all_commands())
PATHS = sorted(COMMANDS)


def test_the_promised_commands_are_there():
    """A command of the manual would be missing."""
    assert {path for path in PATHS if len(path) == 1} == {
        (name,)
        for name in (
            "start", "status", "stats", "queues", "jobs", "pause", "resume", "retry", "cancel",
            "cluster", "certs", "check", "bench",
        )
    }  # fmt: skip
    assert {path[1] for path in PATHS if len(path) == 2} == {
        "members",
        "remove",
        "leave",
        "transfer",
        "init",
        "node",
        "client",
    }


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_and_option_has_help(path, run):
    """Someone would have to read the code to know what an option does."""
    ran = run(*path, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: {' '.join(['exkiq', *path])}")
    for parameter in COMMANDS[path].params:
        if parameter.param_type_name == "option":
            assert parameter.help, parameter.name
            assert parameter.opts[0] in ran.out


def test_start_has_an_option_for_every_setting(run):
    """A setting could be given in a file only."""
    ran = run("start", "--help")
    text = " ".join(ran.out.split())
    for setting in SETTINGS:
        if setting.name in ("app", "secret"):
            continue
        assert setting.flags.replace("/", " / ") in text
        assert setting.variable in text
        assert setting.sentence in text


@pytest.mark.parametrize("arguments", [(), ("cluster",), ("certs",)])
def test_no_command_shows_the_help(arguments, run):
    """Someone who types the bare name would be left with an error."""
    ran = run(*arguments)
    assert ran.code == 2
    assert "Commands:" in ran.out


def test_version(run):
    """A report of a fault could not name the version."""
    ran = run("--version")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("exkiq 0.")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nope"], "nope"),
        (["start", "--nmae", "x"], "--nmae"),
        (["start"], "app"),
        (["start", "workers.py"], "workers.py"),
        (["start", "a", "--queues", "failed"], "failed"),
        (["start", "a", "--bind", "10.0.0.1:1"], "secret"),
        (["start", "a", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (["start", "a", "--concurrency", "ten"], "--concurrency"),
        (["status", "surplus"], "surplus"),
        (["status", "--timeout", "0"], "--timeout"),
        (["status", "--timeout", "soon"], "--timeout"),
        (["status", "--url", "http://example.org"], "http://example.org"),
        (["status", "--secret-file", "/nowhere"], "/nowhere"),
        (["status", "--tls-cert", "/nowhere"], "--tls-key"),
        (["jobs", "--limit", "0"], "--limit"),
        (["jobs", "--state", "lost"], "'lost'"),
        (["pause"], "QUEUE"),
        (["retry"], "--all"),
        (["retry", "id", "--all"], "--all"),
        (["cancel"], "ID"),
        (["cluster", "remove"], "NAME"),
        (["cluster", "nope"], "nope"),
        (["certs", "init"], "DIR"),
        (["certs", "node", "n1"], "DIR"),
        (["certs", "node", "../n1", "/nowhere"], "'../n1'"),
        (["certs", "node", "n1", "/nowhere"], "/nowhere"),
        (["certs", "client", "/nowhere", "--name", "a/b"], "'a/b'"),
        (["certs", "client", "/nowhere", "--days", "0"], "--days"),
        (["check"], "--data-dir"),
        (["check", "--data-dir", "/nowhere"], "/nowhere"),
        (["bench", "--nodes", "0"], "--nodes"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments, named, run):
    """A traceback, or a riddle, would stand where the mistake should be named."""
    ran = run(*arguments)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("exkiq: ")
    assert named in line


def test_all_faults_of_the_settings_are_lines_of_their_own(run):
    """Someone would mend one, and meet the next."""
    ran = run("start", "a b", "--concurrency", "-1", "--processes", "0")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 3
    assert all(line.startswith("exkiq: ") for line in ran.err.splitlines())


@pytest.mark.parametrize(
    "error",
    [
        NoNodeError("no node of cluster 'default' answered"),
        NoQuorum("no leader"),
        NoSuchJob("no job has the id x"),
        OutcomeUnknown("maybe"),
        EnqueueTimeout("late"),
        ClusterMismatch("another secret"),
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_failure_is_one_line_and_code_1(error, node, run):
    """A script could not tell a failure from success, or would have to read a traceback."""
    node.answers["status"] = error
    ran = run("status")
    assert (ran.code, ran.out) == (1, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("exkiq: ")
    assert len(line) > len("exkiq: ")
    assert node.asked[-1] == ("close",)


def test_a_text_from_elsewhere_cannot_steer_the_terminal(node, run):
    """An error message of a job, or a peer, could clear the screen or forge lines."""
    node.answers["status"] = NoQuorum("evil \x1b[2J\r\nexkiq: all is well")
    ran = run("status")
    assert len(ran.err.splitlines()) == 1
    assert "\x1b" not in ran.err


def test_the_options_that_name_a_node_reach_the_client(node, run, tmp_path):
    """A command would act on another cluster than the one named."""
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    secret.chmod(0o600)
    node.answers["status"] = STATUS
    files = [tmp_path / name for name in ("cert", "key", "ca")]
    flags = ["--url", "exkiq://h:1", "--cluster", "blue", "--secret-file", str(secret)]
    for file in files:
        flags += [f"--tls-{file.name}", str(file)]
    assert run("status", *flags).code == 0
    assert node.asked[0] == ("open", "exkiq://h:1", "blue", b"s" * 32, tuple(files))
    assert run("status").code == 0
    assert ("open", None, None, None, None) in node.asked


def test_a_closed_pipe_is_no_traceback():
    """`exkiq ... | head` would end with a page of errors."""
    process = subprocess.Popen(
        [sys.executable, "-m", "exkiq", "start", "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stdout.close()
        complaint = process.stderr.read()
    assert (process.returncode, complaint) == (1, b"")
