"""What the database refuses is one line and a documented code, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from uuid import uuid4

import psycopg2
import pytest
from sqlalchemy import URL, text

from migrations.roles import Login
from tests.support.commands import command, told
from tests.support.server import Server, plain
from tests.support.studies import create, trivial_study
from trialfleet.cli import main
from trialfleet.cli.schema import migrate
from trialfleet.errors import DatabaseLimitError, DatabaseRefusedError, UsageError
from trialfleet.postgres.refusals import refused_statement
from trialfleet.postgres.retry import patiently
from trialfleet.postgres.url import hide_password, parse_url
from trialfleet.store import studies
from trialfleet.store.schema import wait_for_schema
from trialfleet.store.storage import Database

TABLES = (
    "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
)


@contextmanager
def role(server: Server, *rights: str) -> Iterator[str]:
    """A login without any right of its own, but for those named."""
    name = f"login_{uuid4().hex[:8]}"
    server.execute(f"CREATE ROLE {name} LOGIN {' '.join(rights)}")
    try:
        yield name
    finally:
        server.execute(f"DROP ROLE {name}")


def execute(url: URL, statement: str) -> object:
    with closing(psycopg2.connect(plain(url))) as connection, connection, connection.cursor() as c:
        c.execute(statement)
        return c.fetchone()[0] if c.description else None  # type: ignore[index]


SET_UP = {
    "no CREATE on public": (
        "GRANT CREATE ON DATABASE {database} TO {role}",
        "may not CREATE in schema public; as its owner: GRANT CREATE ON SCHEMA public TO {role}",
    ),
    "no CREATE on the database": (
        "GRANT CREATE ON SCHEMA public TO {role}",
        "may not CREATE in database {database}; as its owner: GRANT CREATE ON DATABASE",
    ),
    "search_path": (
        "CREATE SCHEMA elsewhere; GRANT ALL ON SCHEMA elsewhere, public TO {role};"
        "GRANT CREATE ON DATABASE {database} TO {role};"
        "ALTER ROLE {role} IN DATABASE {database} SET search_path = elsewhere, public",
        "search_path is 'elsewhere, public'",
    ),
    "no schema at all": (
        "ALTER ROLE {role} IN DATABASE {database} SET search_path = nowhere",
        "search_path is 'nowhere'",
    ),
    "read-only": (
        "GRANT ALL ON SCHEMA public TO {role}; GRANT CREATE ON DATABASE {database} TO {role};"
        "ALTER DATABASE {database} SET default_transaction_read_only = on",
        "default_transaction_read_only = on",
    ),
}


@pytest.mark.parametrize("name", SET_UP)
def test_a_migration_that_would_be_refused_writes_nothing(
    server: Server,
    empty_database_url: URL,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    statements, says = SET_UP[name]
    with role(server) as login:
        names = {"role": login, "database": empty_database_url.database}
        execute(empty_database_url, statements.format(**names))
        url = empty_database_url.set(username=login)
        monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(url))
        assert command("migrate") == 2
        assert says.format(**names) in told(capsys)
        assert execute(empty_database_url, TABLES) == 0
        execute(empty_database_url, f"SET TRANSACTION READ WRITE; DROP OWNED BY {login}")


def test_a_database_of_another_encoding_is_refused(server: Server) -> None:
    name = f"latin_{uuid4().hex[:8]}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    try:
        url = server.url.set(database=name)
        with pytest.raises(DatabaseRefusedError, match="is LATIN1, and must be UTF8"):
            migrate(url)
        assert execute(url, TABLES) == 0
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_clients_encoding_makes_no_difference(
    database_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    with closing(Database(database_url, application="tests")) as database:
        create(database)
        with database.transaction() as connection:
            reason = {"reason": "Δ → 学"}
            connection.execute(text("UPDATE fleet.studies SET reason = :reason"), reason)
        assert studies.find(database, "trivial").reason == "Δ → 学"


def test_a_role_whose_search_path_leads_elsewhere_is_told_so(
    server: Server, database_url: URL
) -> None:
    with role(server, "SUPERUSER") as login:
        execute(database_url, "CREATE SCHEMA elsewhere")
        database = database_url.database
        execute(
            database_url, f"ALTER ROLE {login} IN DATABASE {database} SET search_path = elsewhere"
        )
        url = database_url.set(username=login)
        with (
            closing(Database(url, application="tests")) as opened,
            pytest.raises(DatabaseRefusedError, match="search_path is 'elsewhere'"),
        ):
            wait_for_schema(opened, 0)


def test_a_missing_right_is_one_line(
    server: Server,
    database_url: URL,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with role(server) as login:
        execute(database_url, f"GRANT USAGE ON SCHEMA fleet, public TO {login}")
        execute(database_url, f"GRANT SELECT ON fleet.alembic_version TO {login}")
        monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database_url.set(username=login)))
        assert command("status") == 2
        assert "a right is missing (permission denied for table studies)" in told(capsys)
        execute(database_url, f"DROP OWNED BY {login}")


def test_logins_that_may_not_be_made_are_one_line_and_nothing_is_kept(
    server: Server, empty_database_url: URL
) -> None:
    with role(server) as login:
        database = empty_database_url.database
        execute(
            empty_database_url,
            f"GRANT ALL ON SCHEMA public TO {login};GRANT CREATE ON DATABASE {database} TO {login}",
        )
        with pytest.raises(Exception, match="permission denied to create role") as refused:
            migrate(
                empty_database_url.set(username=login),
                [Login(role="worker", name="worker_nobody_makes", password=None)],
            )
        assert "a right is missing" in str(refused_statement(refused.value))
        assert execute(empty_database_url, "SELECT to_regnamespace('fleet')") is None
        execute(empty_database_url, f"DROP OWNED BY {login}")


def test_a_full_disk_is_the_databases_code(
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with database.transaction() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE "
                "EXCEPTION 'could not extend file: No space left on device' "
                "USING ERRCODE = 'disk_full'; END $$"
            )
        )
        connection.execute(
            text("CREATE TRIGGER disk BEFORE INSERT ON public.studies EXECUTE FUNCTION refuse()")
        )
    file = tmp_path_factory.mktemp("study") / "trivial.toml"
    file.write_text(trivial_study(), encoding="utf-8")
    monkeypatch.setenv("TRIALFLEET_DATABASE_URL", plain(database.url))
    monkeypatch.setenv("TRIALFLEET_OUTAGE_PATIENCE", "0")
    assert command("coordinate", str(file)) == 5
    assert "No space left on device" in told(capsys)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://one,two/database",
        "postgresql://user:hunter2@one:5432,two:5433/database",
        "postgresql:///database?host=one,two",
        "postgresql:///database?host=one&host=two",
    ],
)
def test_several_hosts_are_refused_as_such(url: str) -> None:
    with pytest.raises(UsageError, match="several hosts, and one is supported") as refused:
        parse_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", [" postgresql://host/database", "postgresql://host/database\r\n"])
def test_space_around_a_url_is_not_part_of_it(url: str) -> None:
    parsed = parse_url(url)
    assert (parsed.host, parsed.database) == ("host", "database")


def test_a_password_is_hidden_as_a_word_and_a_role_of_that_name_is_not() -> None:
    url = parse_url("postgresql://fleet:fleet@host/database")
    assert hide_password('authentication failed for user "fleet"', url) == (
        'authentication failed for user "fleet"'
    )
    url = parse_url("postgresql://fleet:a@host/database")
    assert hide_password("a bad option: a", url) == "*** bad option: ***"


def test_a_role_that_has_all_its_connections_waits_for_one(
    server: Server, database_url: URL
) -> None:
    with role(server, "CONNECTION LIMIT 1") as name:
        url = database_url.set(username=name)
        with closing(Database(url, application="first")) as first:
            pauses: list[float] = []

            def pause(seconds: float) -> None:
                pauses.append(seconds)
                first.close()

            with first.engine.connect():
                with pytest.raises(DatabaseLimitError) as refused:
                    Database(url, application="second", pause=give_up)
                assert "too many connections for role" in str(refused.value.__context__)
            with closing(Database(url, application="second", pause=pause)):
                assert len(pauses) >= 1


def give_up(_seconds: float) -> None:
    raise DatabaseLimitError("the test has seen it", "Nothing")


def test_whoever_has_waited_long_enough_for_a_statement_says_what_to_do(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not that the server may be down."""

    def work() -> None:
        with database.transaction() as connection:
            connection.execute(text("SET LOCAL statement_timeout = '20ms'"))
            connection.execute(text("SELECT pg_sleep(10)"))

    with pytest.raises(DatabaseLimitError) as refused:
        patiently(work, patience=0.0)
    monkeypatch.setattr(main, "app", work)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == refused.value.exit_code == 5
    line = told(capsys)
    for said in (f"{refused.value}. {refused.value.remedy}", line):
        assert "canceling statement due to statement timeout. See in pg_stat_activity" in said
        assert "is up" not in said
