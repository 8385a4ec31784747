"""Readings without an index by meter, which nothing reads and every insert pays for."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_readings_meter", "readings")


def downgrade() -> None:
    op.create_index("ix_readings_meter", "readings", ["meter_id", "isp"])
