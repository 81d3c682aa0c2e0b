"""A study's compatibility number, by which versions know whether they may go on with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Whatever is stored so far is from 0.1.0, whose number is 1.
    number = sa.Column("compatibility", sa.Integer, nullable=False, server_default="1")
    op.add_column("studies", number, schema="fleet")
    op.alter_column("studies", "compatibility", server_default=None, schema="fleet")


def downgrade() -> None:
    op.drop_column("studies", "compatibility", schema="fleet")
