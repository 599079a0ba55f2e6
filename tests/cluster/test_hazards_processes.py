"""A node that lost its disk, with real processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import exkiq
from tests.cluster.harness import Cluster, cluster, until
from tests.cluster.jobs import Note


def test_a_leader_without_its_data_joins_anew_and_nothing_is_lost(tmp_path: Path) -> None:
    """It forgot its votes and what it vouched for: as the old voter it could elect a leader
    that lacks acknowledged jobs."""
    with cluster(tmp_path) as c:
        c.client()
        exkiq.queue("notes").pause()
        jobs = Note.perform_bulk([(number,) for number in range(200)])
        victim = c.leader()
        c.kill(victim)
        shutil.rmtree(tmp_path / victim)
        c.start(victim)
        until(lambda: _role(c, victim) in ("follower", "leader"), what="the victim a voter again")
        assert "lost its data folder: its old membership is removed first" in c.logs()
        c.wait_ready()
        until(c.same_state, what="one state")
        other = next(name for name in c.names if name != victim and name != c.leader())
        c.kill(other)
        c.client(*c.alive)
        until(lambda: exkiq.stats()["queued"] == 200, what="200 waiting jobs")
        exkiq.queue("notes").resume()
        assert [job.result(timeout=30) for job in jobs] == list(range(200))


def _role(c: Cluster, name: str) -> str:
    """What its cluster says of it; "" while it knows no leader."""
    status = c.status(name)
    if status["cluster"]["leader"] is None:
        return ""
    roles = {member["name"]: member["role"] for member in status["cluster"]["members"]}
    return str(roles.get(name, ""))
