"""One study in containers, from `up` to its end, and everything that happens to it on the way.

It takes a minute, so it is told once, and the tests look at different sides of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from tests.e2e.compose import Project, docker, eventually

WORKERS = 8
# As if the leases of workers that are gone had run out long ago. The length goes as well: after a
# restart of PostgreSQL, a lease counts from the restart.
EXPIRE = """
    UPDATE fleet.attempts SET lease = '0', expires_at = now() - interval '1 second'
    WHERE ended_at IS NULL AND worker IN (SELECT worker FROM fleet.workers WHERE host IN ({}))
    RETURNING fence
"""
COUNTED = "SELECT count(*) FROM public.trials WHERE state IN ('COMPLETE', 'PRUNED')"
HOLDING = "SELECT count(DISTINCT worker) FROM fleet.attempts WHERE ended_at IS NULL"
RELEASED = "SELECT count(*) FROM fleet.attempts WHERE outcome = 'released'"
LOST = "SELECT count(*) FROM fleet.attempts WHERE outcome = 'lost'"


@dataclass(frozen=True, kw_only=True)
class Story:
    """What was seen on the way."""

    project: Project
    exit_code: int  # of the `up` in the foreground
    output: str  # of that `up`
    first_claim: float  # seconds from `up` to the first claim
    killed: int  # attempts whose worker got SIGKILL
    released: int  # attempts given back by workers that were scaled away


def tell(project: Project) -> Story:
    """Up, kill, restart, 8 -> 2 -> 6, end."""
    started = time.time()
    up = project.start("up", "--scale", f"worker={WORKERS}")
    up.wait_until(lambda: project.scalar(HOLDING) == WORKERS, patience=180.0)
    [[first]] = project.sql("SELECT extract(epoch FROM min(claimed_at)) FROM fleet.attempts")

    # Two workers vanish in the middle of their trials.
    killed = _kill(project, project.running("worker")[:2])

    # PostgreSQL is stopped and started under the six others.
    before = project.scalar(COUNTED)
    project.compose("restart", "postgres")
    eventually(lambda: project.scalar(COUNTED) > before, "trials finish after the restart")

    _scale(project, 2)
    released = project.scalar(RELEASED)

    # The last two go as well, all of the service at once; then six come.
    eventually(lambda: project.scalar(HOLDING) == 2, "the two that are left work")
    last = project.running("worker")
    project.compose("kill", "--signal", "SIGKILL", "worker")
    killed += _expire(project, last)
    _scale(project, 6)
    stage = project.sql("SELECT stage FROM fleet.studies")
    assert stage == [["search"]], f"the study was over before everything had happened: {stage}"

    exit_code = up.wait(600.0)
    return Story(
        project=project,
        exit_code=exit_code,
        output=up.stdout + up.stderr,
        first_claim=float(first) - started,
        killed=killed,
        released=released,
    )


def _scale(project: Project, workers: int) -> None:
    options = ("--detach", "--no-deps", "--no-recreate", "--scale", f"worker={workers}")
    project.compose("up", *options, "worker")
    assert len(project.running("worker")) == workers


def _kill(project: Project, containers: list[dict[str, Any]]) -> int:
    docker("kill", "--signal=KILL", *(each["Id"] for each in containers))
    return _expire(project, containers)


def _expire(project: Project, containers: list[dict[str, Any]]) -> int:
    """Let the leases of these containers run out at once; how many they held."""
    hosts = ",".join(f"'{each['Config']['Hostname']}'" for each in containers)
    return len(project.sql(EXPIRE.format(hosts)))
