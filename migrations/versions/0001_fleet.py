"""The fleet: studies, attempts (leases), curves, workers, artifacts, and the fence's triggers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NOW = sa.func.now()


def _time(name: str, *, required: bool = True) -> sa.Column[object]:
    default = NOW if required else None
    return sa.Column(
        name, sa.DateTime(timezone=True), nullable=not required, server_default=default
    )


def upgrade() -> None:
    op.create_table(
        "studies",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("search_id", sa.Integer, nullable=False, unique=True),
        sa.Column("final_id", sa.Integer, unique=True),
        sa.Column("stage", sa.Text, nullable=False, server_default="search"),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("budget", sa.Integer, nullable=False),
        sa.Column("max_failures", sa.Integer, nullable=False),
        sa.Column("max_attempts", sa.Integer, nullable=False),
        sa.Column("artifacts", sa.Text, nullable=False, server_default="database"),
        sa.Column("result", postgresql.JSONB),
        sa.Column("reason", sa.Text),
        _time("created_at"),
        _time("ended_at", required=False),
        sa.CheckConstraint("stage IN ('search', 'final', 'done', 'failed')", name="studies_stage"),
        # A study deleted by hand (Optuna's delete_study) takes our rows along.
        sa.ForeignKeyConstraint(["search_id"], ["public.studies.study_id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["final_id"], ["public.studies.study_id"], ondelete="SET NULL"),
        schema="fleet",
    )
    op.create_table(
        "attempts",
        sa.Column("fence", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("trial_id", sa.Integer, nullable=False),
        sa.Column("claim_id", sa.Uuid, nullable=False, unique=True),
        sa.Column("worker", sa.Text, nullable=False),
        _time("claimed_at"),
        sa.Column("lease", sa.Interval, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        _time("ended_at", required=False),
        sa.Column("outcome", sa.Text),
        sa.CheckConstraint(
            "(ended_at IS NULL) = (outcome IS NULL) "
            "AND outcome IN ('finished', 'released', 'lost')",
            name="attempts_outcome",
        ),
        sa.ForeignKeyConstraint(["trial_id"], ["public.trials.trial_id"], ondelete="CASCADE"),
        schema="fleet",
    )
    op.create_index(
        "attempts_lease",
        "attempts",
        ["trial_id"],
        unique=True,
        schema="fleet",
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("attempts_trial", "attempts", ["trial_id"], schema="fleet")
    op.create_table(
        "curves",
        sa.Column("trial_id", sa.Integer, primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("returns", postgresql.ARRAY(sa.Double), nullable=False),
        sa.ForeignKeyConstraint(["trial_id"], ["public.trials.trial_id"], ondelete="CASCADE"),
        schema="fleet",
    )
    op.create_table(
        "checkpoints",
        sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("step", sa.BigInteger, nullable=False),
        sa.Column("artifact", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        _time("created_at"),
        sa.ForeignKeyConstraint(["trial_id"], ["public.trials.trial_id"], ondelete="CASCADE"),
        schema="fleet",
    )
    op.create_table(
        "leaders",
        sa.Column("study", sa.Text, primary_key=True),
        sa.Column("coordinator", sa.Text, nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["study"], ["fleet.studies.name"], ondelete="CASCADE"),
        schema="fleet",
    )
    op.create_table(
        "workers",
        sa.Column("worker", sa.Text, primary_key=True),
        sa.Column("study", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("trial_number", sa.Integer),
        sa.Column("step", sa.BigInteger),
        sa.Column("steps_per_second", sa.Double),
        _time("started_at"),
        _time("seen_at"),
        _time("ended_at", required=False),
        schema="fleet",
    )
    op.create_table(
        "blobs",
        sa.Column("blob_id", sa.Text, primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        _time("created_at"),
        schema="fleet",
    )
    op.create_table(
        "blob_chunks",
        sa.Column("blob_id", sa.Text, primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(["blob_id"], ["fleet.blobs.blob_id"], ondelete="CASCADE"),
        schema="fleet",
    )
    create_guard()


def create_guard() -> None:
    """Make the function and triggers of 0.1.0; the migrator drops them."""
    op.execute(GUARD)
    for table in GUARDED:
        op.execute(
            f"CREATE TRIGGER fleet_guard BEFORE INSERT OR UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION fleet.guard()"
        )


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_table(table, schema="fleet")


TABLES = (
    "studies",
    "attempts",
    "curves",
    "checkpoints",
    "leaders",
    "workers",
    "blobs",
    "blob_chunks",
)

# Everything that belongs to a trial, Optuna's tables and ours.
GUARDED = (
    "public.trials",
    "public.trial_params",
    "public.trial_values",
    "public.trial_intermediate_values",
    "public.trial_user_attributes",
    "public.trial_system_attributes",
    "fleet.curves",
    "fleet.checkpoints",
)

# A worker's transaction carries the fence of its lease in the setting `fleet.fence`. The lease row
# is locked FOR SHARE, so that a write under way and the loss of its lease happen one after the
# other: without the lock, a write that began before the loss could commit after it.
GUARD = """
CREATE FUNCTION fleet.guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    subject integer := CASE TG_OP WHEN 'DELETE' THEN OLD.trial_id ELSE NEW.trial_id END;
    held bigint := nullif(current_setting('fleet.fence', true), '')::bigint;
    lease bigint;
    finished boolean;
BEGIN
    SELECT fence INTO lease FROM fleet.attempts
        WHERE trial_id = subject AND ended_at IS NULL FOR SHARE;
    IF lease IS DISTINCT FROM held THEN
        RAISE EXCEPTION 'trial % is leased under fence %, not %', subject,
            coalesce(lease::text, 'none'), coalesce(held::text, 'none')
            USING ERRCODE = 'FL001';
    END IF;
    IF TG_OP = 'DELETE' THEN
        RETURN OLD;
    END IF;
    IF TG_TABLE_NAME = 'trials' THEN
        finished := TG_OP = 'UPDATE' AND OLD.state IN ('COMPLETE', 'PRUNED', 'FAIL');
    ELSE
        SELECT state IN ('COMPLETE', 'PRUNED', 'FAIL') INTO finished
            FROM public.trials WHERE trial_id = subject;
    END IF;
    IF finished THEN
        RAISE EXCEPTION 'trial % is finished, and finished is final', subject
            USING ERRCODE = 'FL002';
    END IF;
    RETURN NEW;
END $$
"""
