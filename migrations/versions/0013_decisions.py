"""What became of each finalist after each block of a race, and why."""

from __future__ import annotations

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(DECISIONS)


def downgrade() -> None:
    # A race under way cannot go on without them: its study stays where it is.
    op.execute("DROP TABLE fleet.decisions")


# Those of a final stage go with it: of one that an extension has taken the place of they stay, as
# its trials do. The key is why no decision is made twice, whoever coordinates.
DECISIONS = """
CREATE TABLE fleet.decisions (
    final_id integer NOT NULL REFERENCES public.studies (study_id) ON DELETE CASCADE,
    block integer NOT NULL CHECK (block >= 0),
    finalist integer NOT NULL,  -- its rank
    trial integer NOT NULL,  -- its number in the search
    verdict text NOT NULL CHECK (verdict IN (
        'enters', 'stays', 'waits', 'out', 'failed', 'wins', 'equivalent', 'behind')),
    seeds integer NOT NULL,
    mean float8,
    p float8,
    level float8,
    why text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (final_id, block, finalist)
)
"""
