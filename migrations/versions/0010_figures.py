"""What workers measure of the database, in their heartbeats; an index of lost attempts."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE fleet.workers
            ADD COLUMN claims bigint[] NOT NULL DEFAULT '{}',
            ADD COLUMN claim_seconds float8 NOT NULL DEFAULT 0,
            ADD COLUMN database_errors bigint NOT NULL DEFAULT 0
    """)
    op.execute(f"DROP FUNCTION fleet.beat({SHORT})")
    op.execute(BEAT)
    op.execute("CREATE INDEX attempts_lost ON fleet.attempts (trial_id) WHERE outcome = 'lost'")


def downgrade() -> None:
    op.execute("DROP INDEX fleet.attempts_lost")
    # The older function took the same arguments but the last three, and filled the same columns.
    op.execute(f"DROP FUNCTION fleet.beat({SHORT}, bigint[], float8, bigint)")
    op.execute(OLDER)
    for name in ("database_errors", "claim_seconds", "claims"):
        op.execute(f"ALTER TABLE fleet.workers DROP COLUMN {name}")


SHORT = "bigint, text, text, text, integer, text, integer, bigint, float8"
# Extends the lease, if the worker has one, says that it is alive and what it has measured, and
# hears whether the server is running out of connections: more than three quarters of those that
# are not kept for superusers. The figures have defaults for workers of the version before.
_BEAT = """
CREATE FUNCTION fleet.beat(
    held bigint, me text, study_name text, host_name text, process integer, version_text text,
    trial integer, at_step bigint, pace float8{arguments},
    OUT extended boolean, OUT deleted boolean, OUT crowded boolean
) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fleet.attempts a SET expires_at = now() + a.lease
        WHERE a.fence = held AND a.ended_at IS NULL;
    extended := FOUND;
    deleted := held IS NOT NULL AND NOT extended
        AND NOT EXISTS (SELECT FROM fleet.attempts a WHERE a.fence = held);
    INSERT INTO fleet.workers AS w
        (worker, study, host, pid, version, trial_number, step, steps_per_second{columns})
    VALUES (me, study_name, host_name, process, version_text, trial, at_step, pace{values})
    ON CONFLICT (worker) DO UPDATE SET
        trial_number = excluded.trial_number, step = excluded.step,
        steps_per_second = excluded.steps_per_second, seen_at = now(){updates};
    SELECT sum(d.numbackends) > 0.75 * (
            current_setting('max_connections')::integer
            - current_setting('superuser_reserved_connections')::integer
            - coalesce(current_setting('reserved_connections', true)::integer, 0))
        INTO crowded FROM pg_stat_database d;
END $$
"""
BEAT = _BEAT.format(
    arguments=""",
    waits bigint[] DEFAULT '{}', waited float8 DEFAULT 0, errors bigint DEFAULT 0""",
    columns=""",
        claims, claim_seconds, database_errors""",
    values=", waits, waited, errors",
    updates=""",
        claims = excluded.claims, claim_seconds = excluded.claim_seconds,
        database_errors = excluded.database_errors""",
)
OLDER = _BEAT.format(arguments="", columns="", values="", updates="")
