"""Workers on another machine: TLS, with the server's name and its certificate checked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.compose import ROOT, TAG, Project, build, check_in_container, docker

DATABASE = ("docker-compose.yml", "deploy/tls.compose.yml", "tests/e2e/tls/database.compose.yml")
WORKERS = ("deploy/worker.compose.yml", "tests/e2e/tls/worker.compose.yml")
HOST = "db.example.test"
NETWORK = "trialfleet-e2e-tls_default"
IN_PLAIN = """
    SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
    WHERE client_addr IS NOT NULL AND (NOT ssl OR version <> 'TLSv1.3')
"""
ENCRYPTED = """
    SELECT count(*) FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)
    WHERE usename = 'worker' AND ssl
"""


def certificates(folder: Path) -> None:
    """Make them as the guide says."""
    script = ROOT / "deploy" / "postgres" / "make_certificates.sh"
    subprocess.run([script, HOST, folder], check=True, capture_output=True)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$SECRETS of the database's machine, with its certificates."""
    folder = tmp_path_factory.mktemp("database") / "secrets"
    certificates(folder)
    return folder


@pytest.fixture(scope="module")
def postgres(engine: None) -> str:
    """postgres:18; Debian's PostgreSQL where that is a build without TLS."""
    asked = ("run", "--rm", "--entrypoint", "pg_config", "postgres:18", "--configure")
    if "openssl" in docker(*asked, check=False):
        return "postgres:18"
    return build(f"trialfleet-e2e-postgres:{TAG}", "tls/postgres")


@pytest.fixture(scope="module")
def database(
    images: None, postgres: str, secrets: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Project]:
    """PostgreSQL, a coordinator and a dashboard; no worker."""
    project = Project(
        "trialfleet-e2e-tls",
        tmp_path_factory.mktemp("logs"),
        study="tests/e2e/tiny.toml",
        files=DATABASE,
        SECRETS=str(secrets),
        POSTGRES_IMAGE=postgres,
        POSTGRES_BIND="127.0.0.1",
        POSTGRES_PORT="0",
    )
    project.down()
    try:
        project.compose("up", "--detach", "--scale", "worker=0")
        yield project
    finally:
        project.down()


@pytest.fixture(scope="module")
def elsewhere(database: Project, secrets: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """$SECRETS of a worker's machine: the worker's URL and the authority, and nothing else."""
    folder = tmp_path_factory.mktemp("elsewhere") / "secrets"
    (folder / "worker").mkdir(parents=True)
    password = database.compose(
        *("run", "--rm", "--no-deps", "--entrypoint", "cat", "secrets", "/secrets/worker/password")
    ).strip()
    query = "sslmode=verify-full&sslrootcert=/secrets/ca/ca.pem"
    url = f"postgresql://worker:{password}@{HOST}:5432/trialfleet?{query}"
    (folder / "worker" / "url").write_text(url, encoding="utf-8")
    (folder / "ca.pem").write_bytes((secrets / "ca.pem").read_bytes())
    return folder


def test_workers_elsewhere_end_a_study_over_verified_tls(
    database: Project, elsewhere: Path, tmp_path: Path
) -> None:
    workers = Project(
        "trialfleet-e2e-elsewhere",
        tmp_path,
        study="tiny",
        files=WORKERS,
        SECRETS=str(elsewhere),
        WORKER_IMAGE=f"trialfleet-worker:{TAG}",
        RESTART="on-failure:10",  # so that `up` ends with the study
    )
    try:
        up = workers.start("up", "--scale", "worker=2")
        up.wait_until(lambda: database.scalar(ENCRYPTED) > 0, patience=120.0)
        assert database.sql(IN_PLAIN) == [["0"]]
        assert up.wait(600.0) == 0, up.stderr
    finally:
        workers.down()
    check_in_container(database, "tiny")


def test_a_machine_for_workers_can_look_whether_it_reaches_the_database(
    database: Project, elsewhere: Path, tmp_path: Path
) -> None:
    """Before it starts any; for every study, so STUDY names none."""
    workers = Project(
        "trialfleet-e2e-look",
        tmp_path,
        study="",
        files=WORKERS,
        SECRETS=str(elsewhere),
        WORKER_IMAGE=f"trialfleet-worker:{TAG}",
    )
    try:
        assert "tiny" in workers.compose("run", "--rm", "worker", "status")
    finally:
        workers.down()


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ((HOST, "other.example.test"), "does not match host name"),
        (("sslmode=verify-full", "sslmode=disable"), "no encryption"),
        (("/secrets/ca/ca.pem", "/secrets/other.pem"), "certificate verify failed"),
        (("worker:", "owner:"), "password authentication failed"),
    ],
    ids=["another server's name", "no TLS", "another authority", "another role"],
)
def test_whatever_is_not_as_it_should_be_is_refused(
    database: Project, elsewhere: Path, tmp_path: Path, change: tuple[str, str], refusal: str
) -> None:
    certificates(tmp_path)  # another authority, that signed a certificate for the same name
    url = (elsewhere / "worker" / "url").read_text(encoding="utf-8")
    program = f"import psycopg2; psycopg2.connect({url.replace(*change)!r})"
    output = docker(
        *("run", "--rm", "--network", NETWORK, "--entrypoint", "python"),
        *("--volume", f"{elsewhere / 'ca.pem'}:/secrets/ca/ca.pem:ro"),
        *("--volume", f"{tmp_path / 'ca.pem'}:/secrets/other.pem:ro"),
        *(f"trialfleet-worker:{TAG}", "-c", program),
        check=False,
    )
    assert refusal in output


def test_the_way_in_is_published_only_where_it_was_asked_for(database: Project) -> None:
    [postgres] = database.containers("postgres")
    [where] = postgres["NetworkSettings"]["Ports"]["5432/tcp"]
    assert where["HostIp"] == "127.0.0.1"
