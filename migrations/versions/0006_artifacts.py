"""Every artifact has a row that says whose it is, and a name that no other database gives."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("gen_random_uuid()")),
        schema="fleet",
    )
    op.execute("INSERT INTO fleet.identity DEFAULT VALUES")
    op.create_table(
        "artifacts",
        sa.Column("artifact", sa.Text, primary_key=True),
        sa.Column("store", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        # No foreign keys: the row outlives its owner until the bytes are gone.
        sa.Column("search_id", sa.Integer, nullable=False),
        sa.Column("trial_id", sa.Integer),
        sa.Column("fence", sa.BigInteger),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
        ),
        sa.Column("removed_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("kind IN ('checkpoint', 'model', 'best')", name="artifacts_kind"),
        schema="fleet",
    )
    for statement in KNOWN:
        op.execute(statement)
    op.execute(FORGET_STUDY)


def downgrade() -> None:
    op.execute(FORGET_STUDY_BEFORE)
    op.drop_table("artifacts", schema="fleet")
    op.drop_table("identity", schema="fleet")


# What is stored so far keeps its name. Blobs of ours that nothing points to belong to study 0,
# which there is none of.
KNOWN = (
    """
    INSERT INTO fleet.artifacts (artifact, store, kind, search_id, trial_id)
    SELECT c.artifact, s.artifacts, 'checkpoint', s.search_id, c.trial_id
    FROM fleet.checkpoints c
    JOIN public.trials t USING (trial_id)
    JOIN fleet.studies s ON t.study_id IN (s.search_id, s.final_id)
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO fleet.artifacts (artifact, store, kind, search_id, trial_id)
    SELECT CAST(a.value_json AS json) ->> 'artifact', s.artifacts, 'model', s.search_id, t.trial_id
    FROM public.trial_user_attributes a
    JOIN public.trials t USING (trial_id)
    JOIN fleet.studies s ON t.study_id = s.final_id
    WHERE a.key = 'model'
    ON CONFLICT DO NOTHING
    """,
    """
    INSERT INTO fleet.artifacts (artifact, store, kind, search_id)
    SELECT result -> 'model' ->> 'artifact', artifacts, 'best', search_id
    FROM fleet.studies WHERE result -> 'model' ->> 'artifact' IS NOT NULL
    ON CONFLICT DO NOTHING
    """,
    r"""
    INSERT INTO fleet.artifacts (artifact, store, kind, search_id)
    SELECT blob_id, 'database', 'best', 0 FROM fleet.blobs
    WHERE blob_id ~ '-(checkpoint-\d+-\d+|model-\d+|best)$'
    ON CONFLICT DO NOTHING
    """,
)

# What lies in the database goes at once; other stores are swept by a coordinator.
FORGET_STUDY = """
CREATE OR REPLACE FUNCTION fleet.forget_study() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.studies WHERE study_id = OLD.final_id;
    DELETE FROM fleet.workers WHERE study = OLD.name;
    DELETE FROM fleet.blobs WHERE blob_id IN (
        SELECT artifact FROM fleet.artifacts
        WHERE search_id = OLD.search_id AND store = 'database'
    );
    RETURN NULL;
END $$
"""

# As 0004 made it.
FORGET_STUDY_BEFORE = """
CREATE OR REPLACE FUNCTION fleet.forget_study() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM public.studies WHERE study_id = OLD.final_id;
    DELETE FROM fleet.workers WHERE study = OLD.name;
    RETURN NULL;
END $$
"""
