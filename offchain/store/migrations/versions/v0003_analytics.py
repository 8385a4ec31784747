"""Measurements, weather, forecasts, baselines, assets."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "measurements",
        sa.Column("series", sa.String(128), nullable=False),
        sa.Column("quantity", sa.String(32), nullable=False),
        sa.Column("first_isp", sa.Integer, nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("values", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("series", "quantity", "first_isp", "belief_time", "source"),
    )
    op.create_table(
        "weather",
        sa.Column("station", sa.String(128), nullable=False),
        sa.Column("quantity", sa.String(32), nullable=False),
        sa.Column("first_isp", sa.Integer, nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("values", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("station", "quantity", "first_isp", "belief_time", "source"),
    )
    op.create_table(
        "forecasts",
        sa.Column("series", sa.String(128), nullable=False),
        sa.Column("target", sa.String(32), nullable=False),
        sa.Column("horizon", sa.String(32), nullable=False),
        sa.Column("first_isp", sa.Integer, nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("step_isps", sa.Integer, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("p10", sa.LargeBinary, nullable=False),
        sa.Column("p50", sa.LargeBinary, nullable=False),
        sa.Column("p90", sa.LargeBinary, nullable=False),
        sa.Column("basis", sa.String(64), nullable=False),
        sa.Column("run", sa.LargeBinary(32)),
        sa.PrimaryKeyConstraint("series", "target", "horizon", "first_isp", "belief_time", "source"),
    )
    op.create_index("ix_forecasts_run", "forecasts", ["run"])
    op.create_table(
        "baselines",
        sa.Column("series", sa.String(128), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("first_isp", sa.Integer, nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("values", sa.LargeBinary, nullable=False),
        sa.Column("inputs", sa.LargeBinary(32)),
        sa.PrimaryKeyConstraint("series", "method", "first_isp", "belief_time", "source"),
    )
    op.create_table(
        "assets",
        sa.Column("asset_id", sa.String(128), nullable=False),
        sa.Column("valid_from", sa.BigInteger, nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("prosumer", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("attributes", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("asset_id", "valid_from", "belief_time", "source"),
    )
    op.create_index("ix_assets_prosumer", "assets", ["prosumer"])


def downgrade() -> None:
    for table in ("assets", "baselines", "forecasts", "weather", "measurements"):
        op.drop_table(table)
