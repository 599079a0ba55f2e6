"""Where a client looks for nodes, and the names of jobs it makes."""

from __future__ import annotations

import os
import string
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import exkiq
from exkiq import client as clients
from exkiq import errors
from exkiq.client import Client
from exkiq.clock import ManualClock
from exkiq.orders import Ids
from exkiq.rendezvous import make_runtime_folder, runtime_folder, socket_path, sockets
from exkiq.seeker import given_places, places_of
from tests.api.api_app import Add
from tests.api.fake_node import FakeCluster


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # shorter than those of pytest
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def test_urls_name_places() -> None:
    """A URL as documented is not understood."""
    assert places_of("exkiq://a:1,127.0.0.1:22,[::1]:3") == ["a:1", "127.0.0.1:22", "[::1]:3"]
    assert places_of("exkiq://a:1/") == ["a:1"]
    assert places_of("exkiq+unix:///run/x y.sock") == ["unix:/run/x y.sock"]
    assert given_places("exkiq://a:1", ["b:2"], "exkiq://c:3") == ["a:1"]
    assert given_places(None, ["b:2"], "exkiq://c:3") == ["b:2"]
    assert given_places(None, [], "exkiq://c:3") == ["c:3"]
    assert given_places(None, [], None) == []


@pytest.mark.parametrize(
    "url",
    [
        *("", "exkiq://", "exkiq://a", "exkiq://a:0", "exkiq://a:1,", "exkiq://a:99999"),
        *("a:1", "redis://a:1", "exkiq+unix://run/x", "exkiq+unix://", "exkiq://a:b"),
    ],
)
def test_what_is_no_url_is_shown(url: str) -> None:
    """A typing mistake in a URL looks like a cluster that is down."""
    with pytest.raises(errors.ConfigError) as caught:
        exkiq.connect(url)
    assert repr(url) in str(caught.value)


def test_bad_settings_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bad peer or secret file fails with the first job, far from where it was written."""
    with pytest.raises(errors.ConfigError, match=r"peers: .*'a:0'"):
        Client(peers=["a:0"])
    monkeypatch.setenv("EXKIQ_SECRET_FILE", str(tmp_path / "secret"))
    with pytest.raises(errors.ConfigError, match="EXKIQ_SECRET_FILE"):
        Client()


def test_a_node_of_this_machine_is_found_by_its_socket(runtime: Path) -> None:
    """A script on a node's machine has to be told where the node is."""
    cluster = FakeCluster("blue")
    try:
        make_runtime_folder("blue")
        cluster.start_node("n1", unix=socket_path("blue", "n1"))
        os.environ["EXKIQ_CLUSTER"] = "blue"
        Add.perform_async(1)
        clients.default().close()
    finally:
        os.environ.pop("EXKIQ_CLUSTER", None)
        cluster.stop()
    assert len(cluster.jobs) == 1


def test_a_node_is_found_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster
) -> None:
    """EXKIQ_URL or EXKIQ_SECRET is not heeded."""
    secret = "x" * 32
    node = cluster.start_node(secret=secret.encode())
    monkeypatch.setenv("EXKIQ_URL", node.url)
    monkeypatch.setenv("EXKIQ_SECRET", secret)
    Add.perform_async(1)
    assert len(cluster.jobs) == 1


def test_sockets_meet_in_a_folder_of_the_user(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Node and client look in different places, or a name leads out of the folder."""
    assert runtime / "exkiq" / "default" == runtime_folder("default")
    assert runtime / "exkiq" / "default" / "n1.sock" == socket_path("default", "n1")
    for name in ("../../etc", "a/b", ".", "..", "", "ä" * 60, "n" * 63):
        path = socket_path("default", name)
        assert runtime / "exkiq" / "default" == path.parent.resolve()
        assert len(path.name.encode()) < 40
    assert len({socket_path("default", "n" * length).name for length in (62, 63)}) == 2
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert Path(f"/tmp/exkiq-{os.getuid()}/default") == runtime_folder("default")
    found = set()
    for long in ("/" + "x" * 60, "/" + "y" * 60, "/" + "x" * 61):
        monkeypatch.setenv("XDG_RUNTIME_DIR", long)
        found.add(socket_path("default", "n" * 63))
    assert len(found) == 3
    assert all(len(str(path)) < 104 for path in found)


def test_a_folder_of_somebody_else_is_not_trusted(runtime: Path) -> None:
    """Another user of the machine poses as a node, and is handed the jobs."""
    folder = make_runtime_folder("default")
    (folder / "n1.sock").touch()
    (folder / "n1.lock").touch()
    assert [folder / "n1.sock"] == sockets("default")
    folder.chmod(0o777)
    assert sockets("default") == []
    with pytest.raises(errors.ConfigError, match="somebody else"):
        make_runtime_folder("default")
    folder.chmod(0o700)
    folder.parent.chmod(0o770)
    assert sockets("default") == []
    assert sockets("nowhere") == []


def test_ids_are_unique_and_ordered_by_time() -> None:
    """Two jobs share an id, or lists by id are not lists by time."""
    clock = ManualClock()
    ids = Ids(clock, os.urandom)
    made = [ids.next() for _ in range(3_000)]
    clock.advance(1)
    made += [ids.next()]
    clock.step_wall(-5_000)
    made += [ids.next() for _ in range(100)]
    assert sorted(made) == made
    assert len(made) == len(set(made))
    letters = set(string.digits + string.ascii_uppercase) - set("ILOU")
    assert all(len(each) == 26 and set(each) <= letters for each in made)


def test_a_full_millisecond_goes_over_into_the_next() -> None:
    """After many ids in one millisecond they repeat."""
    ids = Ids(ManualClock(), lambda count: b"\xff" * count)
    first = ids.next()
    ids._counter = (1 << 20) - 2
    later = [ids.next() for _ in range(3)]
    assert sorted({first, *later}) == [first, *later]
    assert first[:10] < later[-1][:10]


def test_the_time_can_be_read_from_an_id() -> None:
    """An id that looks like a ULID is none."""
    made = Ids(ManualClock(1_469_918_176_385), os.urandom).next()
    assert made[:10] == "01ARYZ6S41"


def test_an_operation_id_is_never_made_twice() -> None:
    """A new operation is taken for the repetition of an old one."""
    first, second = Client("exkiq://a:1"), Client("exkiq://a:1")
    pids = [client.next_pid() for client in (first, second) for _ in range(100)]
    assert len(set(pids)) == 200
    assert {12} == set(map(len, pids))


def test_the_public_names_are_those_documented() -> None:
    """A name of the README is missing, or any name at all is there."""
    assert all(hasattr(exkiq, name) for name in exkiq.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = exkiq.nonsense
