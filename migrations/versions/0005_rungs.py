"""How many rungs of successive halving a trial had completed at its checkpoint."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Whatever rungs a checkpoint of before has beside it are taken for completed by then, as they were.
COUNT = r"""
    UPDATE fleet.checkpoints c SET rungs = (
        SELECT count(*) FROM public.trial_system_attributes a
        WHERE a.trial_id = c.trial_id AND a.key LIKE 'completed\_rung\_%')
"""


def upgrade() -> None:
    number = sa.Column("rungs", sa.Integer, nullable=False, server_default="0")
    op.add_column("checkpoints", number, schema="fleet")
    op.alter_column("checkpoints", "rungs", server_default=None, schema="fleet")
    # The guard lets only a lease's holder write.
    op.execute("ALTER TABLE fleet.checkpoints DISABLE TRIGGER fleet_guard")
    op.execute(COUNT)
    op.execute("ALTER TABLE fleet.checkpoints ENABLE TRIGGER fleet_guard")


def downgrade() -> None:
    op.drop_column("checkpoints", "rungs", schema="fleet")
