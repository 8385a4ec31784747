"""Readings, batches, commitments, curves, documents, outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

AutoId = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "store_meta",
        sa.Column("key", sa.String(32), primary_key=True),
        sa.Column("value", sa.String(64), nullable=False),
    )
    op.create_table(
        "readings",
        sa.Column("isp", sa.Integer, nullable=False),
        sa.Column("meter_id", sa.LargeBinary(32), nullable=False),
        sa.Column("import_wh", sa.BigInteger, nullable=False),
        sa.Column("export_wh", sa.BigInteger, nullable=False),
        sa.Column("quality", sa.Integer, nullable=False),
        sa.Column("signature", sa.LargeBinary(65), nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.Column("source", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("isp", "meter_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_readings_meter", "readings", ["meter_id", "isp"])
    op.create_table(
        "register_states",
        sa.Column("meter_id", sa.LargeBinary(32), primary_key=True),
        sa.Column("boundary", sa.Integer, nullable=False),
        sa.Column("import_register_wh", sa.BigInteger, nullable=False),
        sa.Column("export_register_wh", sa.BigInteger, nullable=False),
        sa.Column("meter_clock", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "batches",
        sa.Column("id", AutoId, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("operator", sa.String(42), nullable=False),
        sa.Column("first_isp", sa.Integer, nullable=False),
        sa.Column("isp_count", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("leaf_count", sa.Integer, nullable=False),
        sa.Column("data_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("tx", sa.String(66)),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.UniqueConstraint("kind", "operator", "first_isp", "version"),
    )
    op.create_table(
        "meter_days",
        sa.Column("batch_id", AutoId, sa.ForeignKey("batches.id"), nullable=False),
        sa.Column("meter_id", sa.LargeBinary(32), nullable=False),
        sa.Column("first_isp", sa.Integer, nullable=False),
        sa.Column("isp_count", sa.Integer, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("values", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary(65), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "meter_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_meter_days_meter", "meter_days", ["meter_id", "first_isp"])
    op.create_table(
        "commitments",
        sa.Column("commitment_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("committer", sa.String(42), nullable=False),
        sa.Column("scope", sa.LargeBinary(32), nullable=False),
        sa.Column("method", sa.LargeBinary(32), nullable=False),
        sa.Column("first_isp", sa.Integer, nullable=False),
        sa.Column("isp_count", sa.Integer, nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.Column("leaf_count", sa.Integer, nullable=False),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("data_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("tx", sa.String(66)),
    )
    op.create_table(
        "curves",
        sa.Column("id", AutoId, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("method", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.LargeBinary(32), nullable=False),
        sa.Column("first_isp", sa.Integer, nullable=False),
        sa.Column("isp_count", sa.Integer, nullable=False),
        sa.Column("values", sa.LargeBinary, nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.Column("commitment_id", sa.BigInteger, sa.ForeignKey("commitments.commitment_id")),
        sa.Column("leaf_position", sa.Integer),
        sa.UniqueConstraint("kind", "method", "subject_id", "first_isp", "belief_time"),
    )
    op.create_index("ix_curves_commitment", "curves", ["commitment_id", "leaf_position"])
    op.create_table(
        "documents",
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("belief_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "key"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", AutoId, primary_key=True, autoincrement=True),
        sa.Column("key", sa.String(128), nullable=False, unique=True),
        sa.Column("topic", sa.String(64), nullable=False),
        sa.Column("subject_id", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_attempt", sa.BigInteger, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("dead", sa.Boolean, nullable=False),
        sa.Column("done_at", sa.BigInteger),
    )
    op.create_index("ix_outbox_open", "outbox", ["topic", "done_at", "dead", "id"])


def downgrade() -> None:
    for table in (
        "outbox",
        "documents",
        "curves",
        "commitments",
        "meter_days",
        "batches",
        "register_states",
        "readings",
        "store_meta",
    ):
        op.drop_table(table)
