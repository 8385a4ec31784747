"""Tables of the store. One row is one thing that a person can point at; times are UTC seconds.

Identifiers (meter ids, roots, hashes) are raw bytes, packed curves are the bytes that the contracts hash.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 5
"""Number of the latest migration, see ``migrations/``."""
ADDED_TO = {1, 2, 3, 4}
"""Older versions that have no table or column that this one lacks: readers open such a store as it is, writers bring it
up to date."""
APPLICATION_ID = 0x67726970
"""Marks an SQLite file as ours ("grip")."""

metadata = MetaData()
AutoId = BigInteger().with_variant(Integer, "sqlite")

store_meta = Table(
    "store_meta",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", String(64), nullable=False),
)

# Tables without row id start with the columns of their key: SQLite 3.40 takes others for damaged.
#
# Readings arrive in time order from all meters at once: with the ISP first in the key, inserts append and a
# market day is one range. No other index: one by meter would have every insert touch a page per meter, most of what is
# written, and who asks for a meter asks for ISPs too.
readings = Table(
    "readings",
    metadata,
    Column("isp", Integer, nullable=False),
    Column("meter_id", LargeBinary(32), nullable=False),
    Column("import_wh", BigInteger, nullable=False),
    Column("export_wh", BigInteger, nullable=False),
    Column("quality", Integer, nullable=False),
    Column("signature", LargeBinary(65), nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    Column("source", String(64), nullable=False),
    PrimaryKeyConstraint("isp", "meter_id"),
    sqlite_with_rowid=False,
)

# A reading that was corrected: what it said before, with the signature that must never be shown again.
superseded_readings = Table(
    "superseded_readings",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("isp", Integer, nullable=False),
    Column("meter_id", LargeBinary(32), nullable=False),
    Column("import_wh", BigInteger, nullable=False),
    Column("export_wh", BigInteger, nullable=False),
    Column("quality", Integer, nullable=False),
    Column("signature", LargeBinary(65), nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    Column("source", String(64), nullable=False),
    Column("superseded_at", BigInteger, nullable=False),
    Index("ix_superseded_meter", "meter_id", "isp"),
)

# Beside the readings, never among them: nobody signs an estimate.
estimates = Table(
    "estimates",
    metadata,
    Column("isp", Integer, nullable=False),
    Column("meter_id", LargeBinary(32), nullable=False),
    Column("import_wh", BigInteger, nullable=False),
    Column("export_wh", BigInteger, nullable=False),
    Column("method", String(32), nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    PrimaryKeyConstraint("isp", "meter_id"),
    sqlite_with_rowid=False,
)

rejections = Table(
    "rejections",
    metadata,
    Column("meter_id", LargeBinary(32), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("meter_id", "reason"),
    sqlite_with_rowid=False,
)

observations = Table(
    "observations",
    metadata,
    Column("device_id", String(64), nullable=False),
    Column("quantity", String(32), nullable=False),
    Column("phase", Integer, nullable=False),
    Column("observed_at", BigInteger, nullable=False),
    Column("value", Float, nullable=False),
    Column("received_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("device_id", "quantity", "phase", "observed_at"),
    Index("ix_observations_age", "received_at"),
    sqlite_with_rowid=False,
)

device_states = Table(
    "device_states",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("meter_id", LargeBinary(32), nullable=False),
    Column("state", String(32), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("detail", Text, nullable=False),
    Index("ix_device_states_meter", "meter_id", "id"),
)

commands = Table(
    "commands",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("meter_id", LargeBinary(32), nullable=False),
    Column("first_isp", Integer, nullable=False),
    Column("powers", LargeBinary, nullable=False),
    Column("cause", String(64), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("status", String(16), nullable=False),
    Column("acknowledged_at", BigInteger),
    Column("detail", Text, nullable=False),
    Index("ix_commands_meter", "meter_id", "id"),
)

register_states = Table(
    "register_states",
    metadata,
    Column("meter_id", LargeBinary(32), primary_key=True),
    Column("boundary", Integer, nullable=False),
    Column("import_register_wh", BigInteger, nullable=False),
    Column("export_register_wh", BigInteger, nullable=False),
    Column("meter_clock", BigInteger),
    sqlite_with_rowid=False,
)

batches = Table(
    "batches",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("operator", String(42), nullable=False),
    Column("first_isp", Integer, nullable=False),
    Column("isp_count", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("leaf_count", Integer, nullable=False),
    Column("data_hash", LargeBinary(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("tx", String(66)),
    Column("belief_time", BigInteger, nullable=False),
    UniqueConstraint("kind", "operator", "first_isp", "version"),
)

meter_days = Table(
    "meter_days",
    metadata,
    Column("batch_id", AutoId, ForeignKey("batches.id"), nullable=False),
    Column("meter_id", LargeBinary(32), nullable=False),
    Column("first_isp", Integer, nullable=False),
    Column("isp_count", Integer, nullable=False),
    Column("version", Integer, nullable=False),
    Column("values", LargeBinary, nullable=False),
    Column("signature", LargeBinary(65), nullable=False),
    PrimaryKeyConstraint("batch_id", "meter_id"),
    Index("ix_meter_days_meter", "meter_id", "first_isp"),
    sqlite_with_rowid=False,
)

commitments = Table(
    "commitments",
    metadata,
    Column("commitment_id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("committer", String(42), nullable=False),
    Column("scope", LargeBinary(32), nullable=False),
    Column("method", LargeBinary(32), nullable=False),
    Column("first_isp", Integer, nullable=False),
    Column("isp_count", Integer, nullable=False),
    Column("root", LargeBinary(32), nullable=False),
    Column("leaf_count", Integer, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("data_hash", LargeBinary(32), nullable=False),
    Column("tx", String(66)),
)

curves = Table(
    "curves",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("method", String(64), nullable=False),
    Column("subject_id", LargeBinary(32), nullable=False),
    Column("first_isp", Integer, nullable=False),
    Column("isp_count", Integer, nullable=False),
    Column("values", LargeBinary, nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    Column("commitment_id", BigInteger, ForeignKey("commitments.commitment_id")),
    Column("leaf_position", Integer),
    UniqueConstraint("kind", "method", "subject_id", "first_isp", "belief_time"),
    Index("ix_curves_commitment", "commitment_id", "leaf_position"),
)

documents = Table(
    "documents",
    metadata,
    Column("kind", String(32), nullable=False),
    Column("key", LargeBinary(32), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    PrimaryKeyConstraint("kind", "key"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", AutoId, primary_key=True, autoincrement=True),
    Column("key", String(128), nullable=False, unique=True),
    Column("topic", String(64), nullable=False),
    Column("subject_id", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", BigInteger, nullable=False),
    Column("last_error", Text),
    Column("dead", Boolean, nullable=False),
    Column("done_at", BigInteger),
    Index("ix_outbox_open", "topic", "done_at", "dead", "id"),
)

# Time series beside the signed readings: a row is a run of values of one series that became known together, so that
# a year of a thousand meters is read and written in seconds. Values are little-endian doubles, NaN where missing.
# Of several rows about one time the one with the latest belief time counts, see ``series.py``.
measurements = Table(
    "measurements",
    metadata,
    Column("series", String(128), nullable=False),
    Column("quantity", String(32), nullable=False),
    Column("first_isp", Integer, nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    Column("source", String(128), nullable=False),
    Column("count", Integer, nullable=False),
    Column("values", LargeBinary, nullable=False),
    PrimaryKeyConstraint("series", "quantity", "first_isp", "belief_time", "source"),
)

weather = Table(
    "weather",
    metadata,
    Column("station", String(128), nullable=False),
    Column("quantity", String(32), nullable=False),
    Column("first_isp", Integer, nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    Column("source", String(128), nullable=False),
    Column("count", Integer, nullable=False),
    Column("values", LargeBinary, nullable=False),
    PrimaryKeyConstraint("station", "quantity", "first_isp", "belief_time", "source"),
)

forecasts = Table(
    "forecasts",
    metadata,
    Column("series", String(128), nullable=False),
    Column("target", String(32), nullable=False),
    Column("horizon", String(32), nullable=False),
    Column("first_isp", Integer, nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    Column("source", String(128), nullable=False),
    Column("step_isps", Integer, nullable=False),
    Column("count", Integer, nullable=False),
    Column("p10", LargeBinary, nullable=False),
    Column("p50", LargeBinary, nullable=False),
    Column("p90", LargeBinary, nullable=False),
    Column("basis", String(64), nullable=False),
    Column("run", LargeBinary(32)),
    PrimaryKeyConstraint("series", "target", "horizon", "first_isp", "belief_time", "source"),
    Index("ix_forecasts_run", "run"),
)

baselines = Table(
    "baselines",
    metadata,
    Column("series", String(128), nullable=False),
    Column("method", String(64), nullable=False),
    Column("first_isp", Integer, nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    Column("source", String(128), nullable=False),
    Column("count", Integer, nullable=False),
    Column("values", LargeBinary, nullable=False),
    Column("inputs", LargeBinary(32)),
    PrimaryKeyConstraint("series", "method", "first_isp", "belief_time", "source"),
)

assets = Table(
    "assets",
    metadata,
    Column("asset_id", String(128), nullable=False),
    Column("valid_from", BigInteger, nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    Column("source", String(128), nullable=False),
    Column("prosumer", String(128), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("attributes", Text, nullable=False),
    PrimaryKeyConstraint("asset_id", "valid_from", "belief_time", "source"),
    Index("ix_assets_prosumer", "prosumer"),
)

# What analytics found about one prosumer (or asset) that is no series: load profiles, segments, clusters.
analyses = Table(
    "analyses",
    metadata,
    Column("subject", String(128), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("belief_time", BigInteger, nullable=False),
    Column("source", String(128), nullable=False),
    Column("content", Text, nullable=False),
    PrimaryKeyConstraint("subject", "kind", "belief_time", "source"),
    Index("ix_analyses_kind", "kind", "belief_time"),
)
