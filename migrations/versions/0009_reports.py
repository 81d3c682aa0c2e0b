"""A report that looks at its lease once, not once for each row; a claim made twice at once."""

from __future__ import annotations

from importlib import import_module

from alembic import op

before = import_module("migrations.versions.0008_calls")
revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = ("fleet.metrics", "public.trial_intermediate_values")


def upgrade() -> None:
    _replace(REPORT)
    _replace(CLAIM)
    for table in TABLES:
        op.execute(f"DROP TRIGGER fleet_guard ON {table}")
        op.execute(
            f"CREATE TRIGGER fleet_guard BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW "
            f"WHEN ({NOT_LOOKED_AT}) EXECUTE FUNCTION fleet.guard()"
        )


def downgrade() -> None:
    _replace(before.REPORT)
    _replace(before.CLAIM)
    for table in TABLES:
        op.execute(f"DROP TRIGGER fleet_guard ON {table}")
        op.execute(
            f"CREATE TRIGGER fleet_guard BEFORE INSERT OR UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION fleet.guard()"
        )


def _replace(function: str) -> None:
    op.execute(function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))


# `fleet.report` has locked the trial's lease itself, and knows that the trial has not finished.
NOT_LOOKED_AT = "current_setting('fleet.reporting', true) IS DISTINCT FROM NEW.trial_id::text"

# Two statements may see two moments: a claim that its twin has committed between them was taken for
# one that has ended. And nobody looks through a long study for what the counters say is not there.
CLAIM = before.CLAIM
for old, new in (
    (
        "WHERE a.claim_id = claim_key) THEN",
        "WHERE a.claim_id = claim_key AND a.ended_at IS NOT NULL) THEN",
    ),
    (
        "WHERE t.study_id = subject AND t.state = 'WAITING'",
        "WHERE kept.waiting > 0 AND t.study_id = subject AND t.state = 'WAITING'",
    ),
):
    assert CLAIM.count(old) == 1, old
    CLAIM = CLAIM.replace(old, new)

# As in 0008, with one look at the lease: its row is locked to the commit, so that nobody ends it or
# the trial before, and the guard has nothing to add.
REPORT = """
CREATE FUNCTION fleet.report(
    held bigint, subject integer, sent bigint, steps bigint[], returns float8[],
    metric_steps bigint[], metric_names text[], metric_values text[],
    OUT stored bigint, OUT finished bigint
) LANGUAGE plpgsql AS $$
DECLARE
    standing public.trialstate;
BEGIN
    PERFORM set_config('fleet.fence', held::text, true),
        set_config('synchronous_commit', 'off', true);
    -- `stored` is what it was before, if a crash of the server has lost a report.
    UPDATE fleet.attempts a SET expires_at = now() + a.lease,
            step = CASE WHEN a.step < sent THEN a.step ELSE steps[array_upper(steps, 1)] END
        WHERE a.fence = held AND a.trial_id = subject AND a.ended_at IS NULL
        RETURNING a.step INTO stored;
    IF NOT FOUND THEN
        PERFORM fleet.refuse(held, subject);
    END IF;
    SELECT c.finished, t.state INTO finished, standing FROM public.trials t
        JOIN fleet.counters c ON c.study_id = t.study_id WHERE t.trial_id = subject;
    IF standing <> 'RUNNING' THEN
        RAISE EXCEPTION 'trial % is %, not RUNNING', subject, standing USING ERRCODE = 'FL002';
    END IF;
    IF stored < sent THEN
        RETURN;
    END IF;
    PERFORM set_config('fleet.reporting', subject::text, true);
    INSERT INTO public.trial_intermediate_values
        (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT subject, r.step, r.value, 'FINITE' FROM unnest(steps, returns) AS r (step, value)
    ON CONFLICT (trial_id, step) DO UPDATE
        SET intermediate_value = excluded.intermediate_value,
            intermediate_value_type = excluded.intermediate_value_type;
    INSERT INTO fleet.metrics (trial_id, step, name, values)
    SELECT subject, m.step, m.name, m.text::float8[]
    FROM unnest(metric_steps, metric_names, metric_values) AS m (step, name, text)
    ON CONFLICT (trial_id, name, step) DO UPDATE SET values = excluded.values;
    PERFORM set_config('fleet.reporting', '', true);
END $$
"""
