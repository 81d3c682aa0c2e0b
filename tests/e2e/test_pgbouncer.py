"""A real PgBouncer that pools by transaction: no state of a session is relied on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.compose import Project, check_in_container

FILES = ("docker-compose.yml", "tests/e2e/pgbouncer.compose.yml")
POOL = 4  # connections that deploy/pgbouncer.ini gives each role
WORKERS = 4  # two connections each
FROM_ELSEWHERE = """
    SELECT DISTINCT client_addr FROM pg_stat_activity WHERE usename = 'worker'
"""


@pytest.fixture
def project(images: None, tools: str, tmp_path: Path) -> Iterator[Project]:
    made = Project("trialfleet-e2e-pool", tmp_path, study="tests/e2e/tiny.toml", files=FILES)
    made.down()
    yield made
    made.down()


def test_a_study_whose_every_connection_is_pooled_by_transaction_ends_soundly(
    project: Project,
) -> None:
    up = project.start("up", "--scale", f"worker={WORKERS}")
    training = "SELECT count(DISTINCT worker) FROM fleet.attempts WHERE ended_at IS NULL"
    up.wait_until(lambda: project.scalar(training) >= 2, patience=180.0)
    # All of them come through the pool: from one address, and no more than it lets through.
    assert len(project.sql(FROM_ELSEWHERE)) <= 1
    most = project.scalar("SELECT count(*) FROM pg_stat_activity WHERE usename = 'worker'")
    assert 1 <= most <= POOL < 2 * WORKERS
    # A lost connection to the server is one more thing that the pool hides and we survive.
    project.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'worker'")
    assert up.wait(600.0) == 0, up.stderr[-3000:]
    assert "study done" in up.stdout + up.stderr
    check_in_container(project, "tiny")
