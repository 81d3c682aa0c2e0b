"""The schema, who may make it, and the way to a server: passwords, outages, and what they say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, CheckConstraint, Connection, Engine, create_engine, inspect, text
from sqlalchemy.pool import NullPool

import migrations.migrate
from migrations.migrate import downgrade, upgrade
from tests.support.processes import Commands
from tests.support.server import Server
from tests.support.studies import create, take, trivial_study
from trialfleet.cli.schema import migrate
from trialfleet.errors import DatabaseUnavailableError, FleetError, SchemaNotReadyError, UsageError
from trialfleet.postgres.url import parse_url
from trialfleet.postgres.waiting import wait_until
from trialfleet.store import tables
from trialfleet.store.schema import wait_for_schema
from trialfleet.store.storage import Database
from trialfleet.store.trials.optuna_rows import insert_trials

# Everything that a URL, str.format, a shell or a log could stumble over.
PASSWORD = "a{b}%c@d:e/f g%7Bh%%i{0}?j#k"


def engine_of(url: URL) -> Engine:
    return create_engine(url, poolclass=NullPool)


def relations(url: URL) -> set[str]:
    """Everything in both schemas, by kind, name and definition."""
    with engine_of(url).connect() as connection:
        return set(
            connection.scalars(
                text("""
                    SELECT 'column ' || table_schema || '.' || table_name || '.' || column_name
                           || ' ' || data_type || ' ' || is_nullable
                           || coalesce(' ' || column_default, '')
                    FROM information_schema.columns
                    WHERE table_schema IN ('public', 'fleet')
                    UNION ALL
                    SELECT 'index ' || indexdef FROM pg_indexes
                    WHERE schemaname IN ('public', 'fleet')
                    UNION ALL
                    SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid)
                    FROM pg_constraint
                    WHERE connamespace IN ('public'::regnamespace, to_regnamespace('fleet'))
                    UNION ALL
                    SELECT 'trigger ' || pg_get_triggerdef(oid) FROM pg_trigger
                    WHERE NOT tgisinternal
                    UNION ALL
                    SELECT 'function ' || pg_get_functiondef(oid) FROM pg_proc
                    WHERE pronamespace IN ('public'::regnamespace, to_regnamespace('fleet'))
                """)
            )
        )


def test_many_migrators_at_once_make_one_schema(
    server: Server, database_url: URL, empty_database_url: URL, tmp_path: Path
) -> None:
    with closing(Commands(tmp_path, empty_database_url)) as commands:
        for process in [commands.start("migrate") for _ in range(4)]:
            process.expect(0)
            assert tables.REVISION in process.stdout
            assert process.stderr == ""
    assert relations(empty_database_url) == relations(database_url)
    with closing(Database(empty_database_url, application="tests")) as database:
        wait_for_schema(database, 0)
        take(database, create(database).name)


def test_migrating_again_changes_nothing(database: Database) -> None:
    study = create(database)
    before = relations(database.url)
    migrate(database.url)
    assert relations(database.url) == before
    assert take(database, study.name).number == 0


def test_downgrading_leaves_optunas_tables_and_nothing_of_ours(database_url: URL) -> None:
    before = relations(database_url)
    engine = engine_of(database_url)
    with engine.begin() as connection:
        downgrade(connection)
    assert not any("fleet" in relation for relation in relations(database_url))
    # Optuna alone goes on with it.
    storage = optuna.storages.RDBStorage(database_url.render_as_string(hide_password=False))
    study = optuna.create_study(storage=storage)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    storage.engine.dispose()
    with engine.begin() as connection:
        upgrade(connection)
    assert relations(database_url) == before


def test_a_failed_migration_leaves_nothing(
    empty_database_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(connection: Connection) -> None:
        upgrade(connection)
        raise RuntimeError("the power went out")

    monkeypatch.setattr("trialfleet.cli.schema.upgrade", broken)
    with pytest.raises(RuntimeError):
        migrate(empty_database_url)
    assert not any("fleet" in relation for relation in relations(empty_database_url))
    monkeypatch.undo()
    migrate(empty_database_url)
    with closing(Database(empty_database_url, application="tests")) as database:
        wait_for_schema(database, 0)


def test_a_function_that_is_not_todays_is_replaced(database_url: URL) -> None:
    before = relations(database_url)
    engine = engine_of(database_url)
    with engine.begin() as connection:
        connection.execute(
            text("""
                CREATE OR REPLACE FUNCTION fleet.refuse(held bigint, subject integer)
                RETURNS void LANGUAGE sql AS ''
            """)
        )
        connection.execute(text("COMMENT ON SCHEMA fleet IS 'an older text'"))
    assert relations(database_url) != before
    migrate(database_url)
    assert relations(database_url) == before


def test_migrating_again_waits_for_nobody(database_url: URL) -> None:
    with engine_of(database_url).begin() as connection:
        connection.execute(text("LOCK TABLE public.trials, fleet.attempts IN ROW EXCLUSIVE MODE"))
        migrate(database_url)


def test_a_schema_of_an_unknown_version_is_refused(database_url: URL, commands: Commands) -> None:
    with engine_of(database_url).begin() as connection:
        connection.execute(text("UPDATE fleet.alembic_version SET version_num = '0013'"))
    before = relations(database_url)
    process = commands.start("migrate")
    process.expect(2)
    assert "revision 0013" in process.stderr
    assert "Traceback" not in process.stderr
    assert relations(database_url) == before


def test_the_code_needs_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.migrate.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [tables.REVISION]


def test_the_tables_are_those_the_migrations_make(database_url: URL) -> None:
    engine = engine_of(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": lambda name, kind, _: kind != "schema" or name == tables.SCHEMA,
                "version_table_schema": tables.SCHEMA,
                "compare_type": True,
                "compare_server_default": True,
            },
        )
        differences = compare_metadata(context, tables.metadata)
    # The foreign keys to Optuna's tables, and the one from leaders, are the migration's alone.
    keys = {
        f"{key.parent.name}.{key.column_keys[0]} -> {key.elements[0].target_fullname}"
        for key in (d[1] for d in differences if d[0] == "remove_fk")
    }
    assert keys == {
        "studies.search_id -> studies.study_id",
        "studies.final_id -> studies.study_id",
        "former_finals.final_id -> studies.study_id",
        "decisions.final_id -> studies.study_id",
        "attempts.trial_id -> trials.trial_id",
        "metrics.trial_id -> trials.trial_id",
        "checkpoints.trial_id -> trials.trial_id",
        "counters.study_id -> studies.study_id",
        "finished.trial_id -> trials.trial_id",
        "leaders.study -> fleet.studies.name",
    }
    assert [d for d in differences if d[0] != "remove_fk"] == []
    # What Alembic does not compare.
    found = {
        constraint["name"]
        for table in tables.metadata.tables.values()
        for constraint in inspect(engine).get_check_constraints(table.name, schema=tables.SCHEMA)
    }
    declared = {
        constraint.name
        for table in tables.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    assert found == declared


def test_a_worker_on_an_empty_database_gives_up_without_making_anything(
    empty_database_url: URL, tmp_path: Path
) -> None:
    with closing(Commands(tmp_path, empty_database_url)) as commands:
        worker = commands.run(
            "worker", "trivial", code=3, env={"TRIALFLEET_MIGRATION_PATIENCE": "0.1"}
        )
    assert "is empty" in worker.error_line
    assert "trialfleet migrate" in worker.error_line
    assert relations(empty_database_url) == set()


def test_a_worker_on_an_empty_database_waits_for_the_migrator_and_the_coordinator(
    empty_database_url: URL, tmp_path: Path
) -> None:
    looking = text("""
        SELECT count(*) FROM pg_stat_activity
        WHERE application_name = 'trialfleet-worker' AND datname = current_database()
    """)

    def there() -> bool:
        with engine_of(empty_database_url).connect() as connection:
            return bool(connection.scalar(looking))

    with closing(Commands(tmp_path, empty_database_url)) as commands:
        worker = commands.start("worker", "trivial")
        worker.wait_until(there)
        assert relations(empty_database_url) == set()
        migrate(empty_database_url)
        # And then for the coordinator, whose study here has nothing to do any more.
        with closing(Database(empty_database_url, application="tests")) as database:
            create(database)
            with database.transaction() as connection:
                connection.execute(text("UPDATE fleet.studies SET stage = 'failed'"))
        assert "study ended" in worker.expect(0).stderr


def test_a_schema_of_another_version_is_named(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(text("UPDATE fleet.alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaNotReadyError, match=f"revision 9999.*{tables.REVISION}"):
        wait_for_schema(database, 0)


def test_reading_commands_do_not_wait_for_a_migrator(
    empty_database_url: URL, tmp_path: Path
) -> None:
    with closing(Commands(tmp_path, empty_database_url)) as commands:
        for arguments in (["status"], ["best"], ["replay", "trivial", "0"]):
            assert "trialfleet migrate" in commands.run(*arguments, code=3).error_line
    assert relations(empty_database_url) == set()


@pytest.fixture(scope="module")
def account(server: Server) -> Iterator[str]:
    """The name of a role that must give PASSWORD to log in."""
    rules = server.data / "pg_hba.conf"
    trusting = rules.read_text(encoding="utf-8")
    quoted = PASSWORD.replace("'", "''").replace(":", r"\:")
    server.execute(f"CREATE ROLE careful LOGIN SUPERUSER PASSWORD '{quoted}'")
    rules.write_text(f"local all careful scram-sha-256\n{trusting}", encoding="utf-8")
    server.execute("SELECT pg_reload_conf()")

    def refused() -> bool:
        engine = engine_of(server.url.set(username="careful", password="wrong"))
        try:
            engine.connect().close()
        except Exception:
            return True
        return False

    assert wait_until(refused, 10, pause=0.02)
    yield "careful"
    rules.write_text(trusting, encoding="utf-8")
    server.execute("SELECT pg_reload_conf()")
    server.execute("DROP ROLE careful")


def test_a_password_may_hold_any_character(
    account: str, database_url: URL, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = parse_url(
        database_url.set(username=account, password=PASSWORD).render_as_string(hide_password=False)
    )
    assert url.password == PASSWORD
    migrate(url)
    with closing(Database(url, application="tests")) as database:
        study = create(database)
        take(database)
        # Through Optuna's own storage, which passes its URL through str.format.
        assert [trial.number for trial in database.optuna_study(study.name).get_trials()] == [0]
    assert PASSWORD not in caplog.text


def test_a_password_reaches_every_process_and_shows_up_nowhere(
    account: str, database_url: URL, tmp_path: Path
) -> None:
    url = database_url.set(username=account, password=PASSWORD)
    with closing(Commands(tmp_path, url)) as commands:
        study = commands.study_file(trivial_study(trials=2, top=1, final_seeds=1))
        commands.run("run", study, "--workers", "1")
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    encoded = url.render_as_string(hide_password=False).split("@")[0].split(":")[2]
    assert len(written) > 3
    for content in written:
        assert PASSWORD.encode() not in content
        assert encoded.encode() not in content


def refused_login(url: URL) -> FleetError:
    with pytest.raises(DatabaseUnavailableError) as refused:
        Database(url, application="tests")
    return refused.value


def test_a_wrong_password_is_told_without_it(account: str, database_url: URL) -> None:
    error = refused_login(database_url.set(username=account, password="hunter{2}%s"))
    assert "password authentication failed" in str(error)
    assert "hunter" not in repr(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:hunter2@127.0.0.1:1/database",
        "postgresql://user:hunter2@[::1]:1/database",
        "postgresql://user:hunter2@no-such-host.invalid/database",
        "postgresql:///database?user=user&password=hunter2&host=/no/such/folder",
    ],
)
def test_a_server_that_is_not_there_is_told_in_one_line(url: str) -> None:
    error = refused_login(parse_url(url))
    assert "\n" not in str(error)
    assert str(error).startswith("PostgreSQL at ")
    assert "hunter2" not in repr(error)
    # Nor in the chain that a traceback would print.
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_database_that_is_not_there_is_named(server: Server) -> None:
    error = refused_login(server.url.set(database="no_such_database"))
    assert 'database "no_such_database" does not exist' in str(error)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost/database",
        "postgresql://user:hunter2@host:port/database",
        "postgresql//user:hunter2@host/database",
    ],
)
def test_a_malformed_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError, match="database URL: cannot be parsed") as refused:
        parse_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("driver", ["sqlite:///x.db", "mysql://user:hunter2@host/database"])
def test_another_database_is_refused(driver: str) -> None:
    with pytest.raises(UsageError, match="not supported; use postgresql://") as refused:
        parse_url(driver)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg2"])
def test_every_way_to_say_postgresql_is_ours(scheme: str) -> None:
    assert parse_url(f"{scheme}://host/database").drivername == "postgresql+psycopg2"


def test_trials_are_enqueued_all_or_none(open_database: Callable[[], Database]) -> None:
    ours, other = open_database(), open_database()
    study = create(ours)
    template = optuna.trial.create_trial(
        state=optuna.trial.TrialState.WAITING, user_attrs={"seeds": [1]}
    )

    def die() -> None:
        with ours.transaction() as connection:
            insert_trials(connection, study.search_id, [template] * 3)
            raise RuntimeError("the coordinator died")

    with pytest.raises(RuntimeError):
        die()
    assert other.optuna_study(study.name).get_trials() == []
    with ours.transaction() as connection:
        insert_trials(connection, study.search_id, [template] * 3)
        # Nobody sees one before all are there.
        assert other.optuna_study(study.name).get_trials() == []
    trials = other.optuna_study(study.name).get_trials()
    assert [(t.number, t.state.name, t.user_attrs) for t in trials] == [
        (number, "WAITING", {"seeds": [1]}) for number in range(3)
    ]
