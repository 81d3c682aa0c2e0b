"""Each service's login, on a real PostgreSQL: it can do its work, and nothing beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import psycopg2
import pytest
from psycopg2.errors import InsufficientPrivilege
from sqlalchemy import URL

from migrations.roles import GRANTS, Login, Role
from tests.support.server import Server, plain
from trialfleet.cli.schema import migrate

STATEMENTS = {
    "read trials": "SELECT count(*) FROM public.trials",
    "read the lease table": "SELECT count(*) FROM fleet.attempts",
    "lock a study": "SELECT 1 FROM public.studies FOR UPDATE",
    "start a trial": "INSERT INTO public.trials (study_id, number, state)"
    " SELECT study_id, 0, 'RUNNING' FROM public.studies WHERE false",
    "finish a trial": "UPDATE public.trials SET state = 'COMPLETE' WHERE false",
    "forget reports": "DELETE FROM public.trial_intermediate_values WHERE false",
    "delete a trial": "DELETE FROM public.trials WHERE false",
    "delete a parameter": "DELETE FROM public.trial_params WHERE false",
    "delete an attempt": "DELETE FROM fleet.attempts WHERE false",
    "rename a study": "UPDATE public.studies SET study_name = 'mine'",
    "change a budget": "UPDATE fleet.studies SET budget = 0",
    "create a study": "INSERT INTO public.studies (study_name) VALUES ('new')",
    "delete a study": "DELETE FROM public.studies WHERE false",
    "write a note": "UPDATE public.study_system_attributes SET value_json = '{}' WHERE false",
    "write a checkpoint": "DELETE FROM fleet.checkpoints WHERE false",
    "write a blob": "INSERT INTO fleet.blob_chunks (blob_id, position, data)"
    " SELECT blob_id, 0, '' FROM fleet.blobs WHERE false",
    "lead": "DELETE FROM fleet.leaders WHERE false",
    "fake the revision": "UPDATE fleet.alembic_version SET version_num = '9999'",
    "fake Optuna's revision": "UPDATE public.version_info SET schema_version = 1",
    "disarm the guard": "ALTER TABLE public.trials DISABLE TRIGGER fleet_guard",
    "empty a table": "TRUNCATE fleet.metrics",
    "make a table": "CREATE TABLE public.mine (x int)",
    "make a table of ours": "CREATE TABLE fleet.mine (x int)",
    "make a temporary table": "CREATE TEMP TABLE mine (x int)",
    "make a schema": "CREATE SCHEMA mine",
    "make a role": "CREATE ROLE mine",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "read a file": "SELECT pg_read_file('/etc/passwd')",
}
READS = {"read trials", "read the lease table"}
WORK = READS | {
    "lock a study",
    "start a trial",
    "finish a trial",
    "forget reports",
    "write a note",
    "write a checkpoint",
    "write a blob",
}
ALLOWED: dict[Role, set[str]] = {
    "dashboard": READS,
    "worker": WORK,
    "coordinator": WORK
    | {
        "delete a trial",
        "delete a parameter",
        "delete an attempt",
        "rename a study",
        "change a budget",
        "create a study",
        "delete a study",
        "lead",
    },
    "writing dashboard": READS
    | {
        "lock a study",
        "start a trial",
        "finish a trial",
        "forget reports",
        "delete a trial",
        "delete a parameter",
        "rename a study",
        "create a study",
        "delete a study",
        "write a note",
    },
}


@pytest.fixture
def logins(server: Server, database_url: URL) -> Iterator[dict[Role, Login]]:
    """A login for each role, of this test alone: roles belong to the whole server."""
    suffix = uuid4().hex[:8]
    server.execute(f'REVOKE ALL ON DATABASE "{database_url.database}" FROM PUBLIC')
    made: dict[Role, Login] = {
        role: Login(role=role, name=f'{role} "{suffix}"', password="'{}%@:/ ü\\") for role in GRANTS
    }
    migrate(database_url, list(made.values()))
    yield made
    with psycopg2.connect(plain(database_url)) as connection, connection.cursor() as cursor:
        for login in made.values():
            name = login.name.replace('"', '""')
            cursor.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')


def can(url: URL, statement: str) -> bool:
    """Whether the login may; what it did is undone."""
    connection = psycopg2.connect(plain(url))
    try:
        connection.cursor().execute(statement)
    except InsufficientPrivilege:
        return False
    finally:
        connection.rollback()
        connection.close()
    return True


@pytest.mark.parametrize("role", list(GRANTS))
def test_a_role_can_do_its_work_and_nothing_else(
    role: Role, logins: dict[Role, Login], database_url: URL
) -> None:
    url = database_url.set(username=logins[role].name)
    allowed = {name for name, statement in STATEMENTS.items() if can(url, statement)}
    assert allowed == ALLOWED[role]


def test_the_passwords_are_kept_as_scram_verifiers(
    logins: dict[Role, Login], database_url: URL
) -> None:
    with psycopg2.connect(plain(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT rolpassword, rolsuper OR rolcreaterole OR rolcreatedb FROM pg_authid"
            " WHERE rolname = ANY(%s)",
            ([login.name for login in logins.values()],),
        )
        rows = cursor.fetchall()
    assert len(rows) == len(GRANTS)
    for password, powerful in rows:
        assert password.startswith("SCRAM-SHA-256$")
        assert not powerful


def test_a_second_migration_takes_rights_back(logins: dict[Role, Login], database_url: URL) -> None:
    writing = logins["writing dashboard"]
    url = database_url.set(username=writing.name)
    delete = STATEMENTS["delete a trial"]
    assert can(url, delete)
    migrate(database_url, [Login(role="dashboard", name=writing.name, password=None)])
    assert not can(url, delete)
    assert not can(url, "SELECT 1 FROM fleet.attempts FOR UPDATE")
    assert can(url, STATEMENTS["read trials"])
