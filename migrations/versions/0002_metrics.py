"""Named metrics in place of curves: a row is one metric's value of each agent at one step.

The last point of a trial that completed under 0001 was its score; under this revision it is the
last evaluation's mean return. What is stored already stays as it is.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

GUARD = """
    CREATE TRIGGER fleet_guard BEFORE INSERT OR UPDATE OR DELETE ON fleet.{table}
    FOR EACH ROW EXECUTE FUNCTION fleet.guard()
"""


def upgrade() -> None:
    op.create_table(
        "metrics",
        sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("values", postgresql.ARRAY(sa.Double), nullable=False),
        sa.ForeignKeyConstraint(["trial_id"], ["public.trials.trial_id"], ondelete="CASCADE"),
        schema="fleet",
    )
    # Before the guard is there: it lets nobody write to a finished trial.
    op.execute("""
        INSERT INTO fleet.metrics (trial_id, name, step, values)
        SELECT trial_id, 'return', step, returns FROM fleet.curves
    """)
    op.execute(GUARD.format(table="metrics"))
    op.drop_table("curves", schema="fleet")


def downgrade() -> None:
    op.create_table(
        "curves",
        sa.Column("trial_id", sa.Integer, primary_key=True),
        sa.Column("step", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("returns", postgresql.ARRAY(sa.Double), nullable=False),
        sa.ForeignKeyConstraint(["trial_id"], ["public.trials.trial_id"], ondelete="CASCADE"),
        schema="fleet",
    )
    op.execute("""
        INSERT INTO fleet.curves (trial_id, step, returns)
        SELECT trial_id, step, values FROM fleet.metrics WHERE name = 'return'
    """)
    op.execute(GUARD.format(table="curves"))
    op.drop_table("metrics", schema="fleet")
