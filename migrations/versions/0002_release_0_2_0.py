"""From 0.1.0 to 0.2.0: named metrics, owned artifacts, counters, steering, fleets, races.

The functions and triggers of today are in `migrations/functions`.
"""

from __future__ import annotations

from importlib import import_module

from alembic import op

release_0_1_0 = import_module("migrations.versions.0001_fleet")
revision = "0.2.0"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for statement in (*STUDIES, *ATTEMPTS, *METRICS, *CHECKPOINTS, *COUNTERS, *FINALS, *WORKERS):
        op.execute(statement)
    for statement in ARTIFACTS:
        op.execute(statement)


def downgrade() -> None:
    # Former final stages stay, as stock Optuna's own. A race under way cannot go on without its
    # decisions: its study stays where it is.
    for table in ("artifacts", "identity", "decisions", "former_finals", "finished", "counters"):
        op.execute(f"DROP TABLE fleet.{table}")
    for statement in CURVES:
        op.execute(statement)
    op.execute("DROP INDEX fleet.studies_open")
    op.execute("DROP INDEX fleet.attempts_lost")
    for table, columns in COLUMNS.items():
        for column in columns:
            op.execute(f"ALTER TABLE fleet.{table} DROP COLUMN {column}")
    release_0_1_0.create_guard()


COLUMNS = {
    "studies": (
        "compatibility",
        "paused_at",
        "paused_seconds",
        "stopped",
        "rules",
        "imported",
        "finals",
        "priority",
    ),
    "attempts": ("step",),
    "checkpoints": ("rungs",),
    "workers": ("claims", "claim_seconds", "database_errors"),
}

STUDIES = (
    # Whatever is stored so far is from 0.1.0, whose number is 1.
    """
    ALTER TABLE fleet.studies
        ADD COLUMN compatibility integer NOT NULL DEFAULT 1,
        ADD COLUMN paused_at timestamptz,
        ADD COLUMN paused_seconds float8 NOT NULL DEFAULT 0,
        ADD COLUMN stopped text,
        ADD COLUMN rules boolean NOT NULL DEFAULT true,
        ADD COLUMN imported integer NOT NULL DEFAULT 0,
        ADD COLUMN finals integer NOT NULL DEFAULT 0,
        ADD COLUMN priority integer NOT NULL DEFAULT 1
    """,
    "ALTER TABLE fleet.studies ALTER COLUMN compatibility DROP DEFAULT",
    # Those that have ended may be thousands, and no worker asks for them.
    """
    CREATE INDEX studies_open ON fleet.studies (created_at) WHERE stage IN ('search', 'final')
    """,
)

ATTEMPTS = (
    "ALTER TABLE fleet.attempts ADD COLUMN step bigint NOT NULL DEFAULT 0",
    "CREATE INDEX attempts_lost ON fleet.attempts (trial_id) WHERE outcome = 'lost'",
)

# The last point of a trial that completed under 0.1.0 was its score; now it is the last
# evaluation's mean return. What is stored already stays as it is.
METRICS = (
    """
    CREATE TABLE fleet.metrics (
        trial_id integer NOT NULL REFERENCES public.trials (trial_id) ON DELETE CASCADE,
        name text NOT NULL,
        step bigint NOT NULL,
        values float8[] NOT NULL,
        PRIMARY KEY (trial_id, name, step)
    )
    """,
    """
    INSERT INTO fleet.metrics (trial_id, name, step, values)
    SELECT trial_id, 'return', step, returns FROM fleet.curves
    """,
    "DROP TABLE fleet.curves",
)
CURVES = (
    """
    CREATE TABLE fleet.curves (
        trial_id integer NOT NULL REFERENCES public.trials (trial_id) ON DELETE CASCADE,
        step bigint NOT NULL,
        returns float8[] NOT NULL,
        PRIMARY KEY (trial_id, step)
    )
    """,
    """
    INSERT INTO fleet.curves (trial_id, step, returns)
    SELECT trial_id, step, values FROM fleet.metrics WHERE name = 'return'
    """,
    "DROP TABLE fleet.metrics",
)

# Rungs that are stored beside a checkpoint of 0.1.0 are taken for completed by then.
CHECKPOINTS = (
    "ALTER TABLE fleet.checkpoints ADD COLUMN rungs integer NOT NULL DEFAULT 0",
    "ALTER TABLE fleet.checkpoints ALTER COLUMN rungs DROP DEFAULT",
    r"""
    UPDATE fleet.checkpoints c SET rungs = (
        SELECT count(*) FROM public.trial_system_attributes a
        WHERE a.trial_id = c.trial_id AND a.key LIKE 'completed\_rung\_%')
    """,
)

COUNTERS = (
    """
    CREATE TABLE fleet.counters (
        study_id integer PRIMARY KEY REFERENCES public.studies (study_id) ON DELETE CASCADE,
        waiting integer NOT NULL,
        running integer NOT NULL,
        complete integer NOT NULL,
        pruned integer NOT NULL,
        failed integer NOT NULL,
        finished bigint NOT NULL,  -- the last position in fleet.finished
        claimed bigint NOT NULL DEFAULT 0  -- fence of the last claim
    )
    """,
    """
    CREATE TABLE fleet.finished (
        study_id integer NOT NULL,
        position bigint NOT NULL,
        trial_id integer NOT NULL UNIQUE REFERENCES public.trials (trial_id) ON DELETE CASCADE,
        PRIMARY KEY (study_id, position)
    )
    """,
    """
    INSERT INTO fleet.counters
    SELECT study_id,
        count(*) FILTER (WHERE state = 'WAITING'), count(*) FILTER (WHERE state = 'RUNNING'),
        count(*) FILTER (WHERE state = 'COMPLETE'), count(*) FILTER (WHERE state = 'PRUNED'),
        count(*) FILTER (WHERE state = 'FAIL'),
        count(*) FILTER (WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL'))
    FROM public.trials GROUP BY study_id
    """,
    """
    INSERT INTO fleet.finished (study_id, position, trial_id)
    SELECT study_id,
        row_number() OVER (PARTITION BY study_id ORDER BY datetime_complete, trial_id), trial_id
    FROM public.trials WHERE state IN ('COMPLETE', 'PRUNED', 'FAIL')
    """,
)

FINALS = (
    # Final stages that an extension has replaced, with what they found.
    """
    CREATE TABLE fleet.former_finals (
        search_id integer NOT NULL,
        final_id integer NOT NULL UNIQUE REFERENCES public.studies (study_id) ON DELETE CASCADE,
        edition integer NOT NULL,  -- its place among the study's final stages, from 0
        budget integer NOT NULL,  -- of the search when it was over
        result jsonb,
        reason text,
        ended_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (search_id, edition)
    )
    """,
    # The decisions of a final stage go with it. Their key is why no decision is made twice,
    # whoever coordinates.
    """
    CREATE TABLE fleet.decisions (
        final_id integer NOT NULL REFERENCES public.studies (study_id) ON DELETE CASCADE,
        block integer NOT NULL CHECK (block >= 0),
        finalist integer NOT NULL,  -- its rank
        trial integer NOT NULL,  -- its number in the search
        verdict text NOT NULL CHECK (verdict IN (
            'enters', 'stays', 'waits', 'out', 'failed', 'wins', 'equivalent', 'behind',
            'confirming', 'confirmed', 'spent')),
        seeds integer NOT NULL,
        mean float8,
        p float8,
        level float8,
        why text NOT NULL,
        made_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (final_id, block, finalist)
    )
    """,
)

WORKERS = (
    """
    ALTER TABLE fleet.workers
        ADD COLUMN claims bigint[] NOT NULL DEFAULT '{}',
        ADD COLUMN claim_seconds float8 NOT NULL DEFAULT 0,
        ADD COLUMN database_errors bigint NOT NULL DEFAULT 0
    """,
)

# Every artifact has a row that says whose it is, and a name that no other database gives. What is
# stored so far keeps its name. Blobs of ours that nothing points to belong to study 0, which there
# is none of.
ARTIFACTS = (
    "CREATE TABLE fleet.identity (id uuid PRIMARY KEY DEFAULT gen_random_uuid())",
    "INSERT INTO fleet.identity DEFAULT VALUES",
    # No foreign keys: the row outlives its owner until the bytes are gone.
    """
    CREATE TABLE fleet.artifacts (
        artifact text PRIMARY KEY,
        store text NOT NULL,
        kind text NOT NULL,
        search_id integer NOT NULL,
        trial_id integer,
        fence bigint,
        created_at timestamptz NOT NULL DEFAULT now(),
        removed_at timestamptz,
        CONSTRAINT artifacts_kind CHECK (kind IN ('checkpoint', 'model', 'best'))
    )
    """,
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
