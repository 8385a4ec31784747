"""Corrected and estimated readings, rejections, observations, states and commands of devices."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

AutoId = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "superseded_readings",
        sa.Column("id", AutoId, primary_key=True, autoincrement=True),
        sa.Column("isp", sa.Integer, nullable=False),
        sa.Column("meter_id", sa.LargeBinary(32), nullable=False),
        sa.Column("import_wh", sa.BigInteger, nullable=False),
        sa.Column("export_wh", sa.BigInteger, nullable=False),
        sa.Column("quality", sa.Integer, nullable=False),
        sa.Column("signature", sa.LargeBinary(65), nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.Column("superseded_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_superseded_meter", "superseded_readings", ["meter_id", "isp"])
    op.create_table(
        "estimates",
        sa.Column("isp", sa.Integer, nullable=False),
        sa.Column("meter_id", sa.LargeBinary(32), nullable=False),
        sa.Column("import_wh", sa.BigInteger, nullable=False),
        sa.Column("export_wh", sa.BigInteger, nullable=False),
        sa.Column("method", sa.String(32), nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("isp", "meter_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "rejections",
        sa.Column("meter_id", sa.LargeBinary(32), nullable=False),
        sa.Column("reason", sa.String(64), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("meter_id", "reason"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "observations",
        sa.Column("device_id", sa.String(64), nullable=False),
        sa.Column("quantity", sa.String(32), nullable=False),
        sa.Column("phase", sa.Integer, nullable=False),
        sa.Column("observed_at", sa.BigInteger, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("device_id", "quantity", "phase", "observed_at"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_observations_age", "observations", ["received_at"])
    op.create_table(
        "device_states",
        sa.Column("id", AutoId, primary_key=True, autoincrement=True),
        sa.Column("meter_id", sa.LargeBinary(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("ix_device_states_meter", "device_states", ["meter_id", "id"])
    op.create_table(
        "commands",
        sa.Column("id", AutoId, primary_key=True, autoincrement=True),
        sa.Column("meter_id", sa.LargeBinary(32), nullable=False),
        sa.Column("first_isp", sa.Integer, nullable=False),
        sa.Column("powers", sa.LargeBinary, nullable=False),
        sa.Column("cause", sa.String(64), nullable=False),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger),
        sa.Column("detail", sa.Text, nullable=False),
    )
    op.create_index("ix_commands_meter", "commands", ["meter_id", "id"])


def downgrade() -> None:
    for table in ("commands", "device_states", "observations", "rejections", "estimates", "superseded_readings"):
        op.drop_table(table)
