"""Who may do what: the logins of the services, made and granted their rights by the migrator.

Rights are made anew at every `trialfleet migrate`, so tables of a later revision are covered, and a
changed password or a changed mind about the dashboard takes effect. All of it happens in the
migration's transaction: there is no moment at which a service has too few rights or too many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from psycopg2 import extensions
from sqlalchemy import Connection, quoted_name, text
from sqlalchemy.exc import ProgrammingError

from trialfleet.store import tables

Role = Literal["coordinator", "worker", "dashboard", "writing dashboard"]


@dataclass(frozen=True, kw_only=True)
class Login:
    """One service's way into the database."""

    role: Role
    name: str
    password: str | None  # None where something else than a password lets it in


# Optuna's tables, by name: `public` may hold other people's as well.
OPTUNA = (
    "alembic_version",
    "studies",
    "study_directions",
    "study_system_attributes",
    "study_user_attributes",
    "trial_heartbeats",
    "trial_intermediate_values",
    "trial_params",
    "trial_system_attributes",
    "trial_user_attributes",
    "trial_values",
    "trials",
    "version_info",
)
OPTUNA_TABLES = text("""
    SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
    WHERE schemaname = 'public' AND tablename = ANY(:names)
""")
# Those behind Optuna's SERIAL keys; an identity column, as ours are, needs no right of its own.
OPTUNA_SEQUENCES = text("""
    SELECT s.oid::regclass::text FROM pg_class s
    JOIN pg_depend d ON d.objid = s.oid AND d.deptype = 'a'
    JOIN pg_class t ON t.oid = d.refobjid
    JOIN pg_namespace n ON n.oid = t.relnamespace
    WHERE s.relkind = 'S' AND n.nspname = 'public' AND t.relname = ANY(:names)
""")
EXISTS = text("SELECT 1 FROM pg_roles WHERE rolname = :name")

# Statements for each role; {role}, {optuna} and {sequences} are filled in.
_READ = (
    "GRANT USAGE ON SCHEMA public, fleet TO {role}",
    "GRANT SELECT ON {optuna} TO {role}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA fleet TO {role}",
)
GRANTS: dict[Role, tuple[str, ...]] = {
    # Owns the life of every study, but neither the schema nor what the migrator keeps in it.
    "coordinator": (
        *_READ,
        "GRANT INSERT, UPDATE, DELETE ON {optuna} TO {role}",
        "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fleet TO {role}",
        "GRANT USAGE ON {sequences} TO {role}",
        "REVOKE INSERT, UPDATE, DELETE ON public.alembic_version, public.version_info,"
        " fleet.alembic_version, fleet.identity, fleet.counters, fleet.finished FROM {role}",
    ),
    # Writes trials and what belongs to them. It deletes no trial; an attempt that starts over
    # deletes reports and rungs of the one before. To lock the study's row it needs the right to
    # update one column of it; its key is the one that the trials' foreign keys keep as it is.
    "worker": (
        *_READ,
        "GRANT INSERT, UPDATE ON public.trials, public.trial_params, public.trial_values,"
        " public.trial_intermediate_values, public.trial_user_attributes,"
        " public.trial_system_attributes, public.study_system_attributes TO {role}",
        "GRANT DELETE ON public.trial_intermediate_values, public.trial_system_attributes"
        " TO {role}",
        "GRANT UPDATE (study_id) ON public.studies TO {role}",
        "GRANT USAGE ON {sequences} TO {role}",
        "GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fleet TO {role}",
        "REVOKE INSERT, UPDATE, DELETE ON fleet.studies, fleet.former_finals, fleet.decisions,"
        " fleet.leaders, fleet.alembic_version,"
        " fleet.identity, fleet.counters, fleet.finished FROM {role}",
        "REVOKE DELETE ON fleet.attempts, fleet.workers FROM {role}",
    ),
    "dashboard": _READ,
    # What optuna-dashboard's buttons do: notes, new studies, deleted ones with their artifacts.
    "writing dashboard": (
        *_READ,
        "GRANT INSERT, UPDATE, DELETE ON {optuna} TO {role}",
        "REVOKE INSERT, UPDATE, DELETE ON public.alembic_version, public.version_info FROM {role}",
        "GRANT USAGE ON {sequences} TO {role}",
        "GRANT DELETE ON fleet.blobs TO {role}",
    ),
}


def grant(connection: Connection, logins: list[Login]) -> None:
    """Make the logins that are missing, set their passwords, and grant exactly their rights.

    The migrator's own login is left alone: a service that uses it has every right already.
    """
    names = {"names": list(OPTUNA)}
    optuna = ", ".join(connection.scalars(OPTUNA_TABLES, names))
    sequences = ", ".join(connection.scalars(OPTUNA_SEQUENCES, names))
    own = connection.scalar(text("SELECT session_user"))
    prepare = connection.dialect.identifier_preparer
    database = prepare.quote(quoted_name(_database(connection), True))
    for login in logins:
        if login.name == own:
            continue
        role = prepare.quote(quoted_name(login.name, True))
        _make(connection, login, role)
        for statement in (
            "REVOKE ALL ON {optuna} FROM {role}",
            "REVOKE ALL ON SEQUENCE {sequences} FROM {role}",
            f"REVOKE ALL ON ALL TABLES IN SCHEMA {tables.SCHEMA} FROM {{role}}",
            "GRANT CONNECT ON DATABASE {database} TO {role}",
            *GRANTS[login.role],
        ):
            connection.exec_driver_sql(
                statement.replace("ON {sequences}", "ON SEQUENCE {sequences}").format(
                    role=role, optuna=optuna, sequences=sequences, database=database
                )
            )


def _database(connection: Connection) -> str:
    return str(connection.scalar(text("SELECT current_database()")))


def _make(connection: Connection, login: Login, role: str) -> None:
    if connection.scalar(EXISTS, {"name": login.name}) is None:
        connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
    if login.password is None:
        return
    # Only a SCRAM verifier travels: the server's log may keep statements.
    verifier = extensions.encrypt_password(
        login.password,
        login.name,
        connection.connection.dbapi_connection,  # type: ignore[arg-type]  # psycopg2's own
        "scram-sha-256",
    )
    try:
        with connection.begin_nested():
            connection.exec_driver_sql(f"ALTER ROLE {role} PASSWORD '{verifier}'")
    except ProgrammingError as exc:
        # A login that somebody else made keeps the password that they gave it.
        if getattr(exc.orig, "pgcode", None) != "42501":  # insufficient_privilege
            raise
