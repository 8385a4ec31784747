"""What analytics found about prosumers: load profiles, segments, clusters."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "analyses",
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("subject", "kind", "belief_time", "source"),
    )
    op.create_index("ix_analyses_kind", "analyses", ["kind", "belief_time"])


def downgrade() -> None:
    op.drop_table("analyses")
