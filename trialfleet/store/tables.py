"""Our own schema, `fleet`, as SQLAlchemy metadata. Optuna's tables stay in `public`.

All times are the database's `now()`, with time zone. The foreign keys to Optuna's tables, and the
triggers that make Optuna's own writes obey the fence, are in the migration.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

SCHEMA = "fleet"
# The migration that this code needs; a test holds it to the newest one.
REVISION = "0.2.0"

metadata = MetaData(schema=SCHEMA)

# One row per study file. `stage` is the study's whole life: search -> final -> done, or failed.
studies = Table(
    "studies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("search_id", Integer, nullable=False, unique=True),  # Optuna's study of the search
    Column("final_id", Integer, unique=True),  # Optuna's study NAME.final, once it exists
    Column("stage", Text, nullable=False, server_default="search"),
    Column("spec", Text, nullable=False),  # canonical JSON: what a worker needs to train
    Column("digest", Text, nullable=False),  # of that text
    Column("version", Text, nullable=False),  # of the Trialfleet that created the study
    Column("compatibility", Integer, nullable=False),  # trialfleet.COMPATIBILITY of that version
    Column("budget", Integer, nullable=False),  # trials that count
    Column("max_failures", Integer, nullable=False),  # FAILs beyond this end the study
    Column("max_attempts", Integer, nullable=False),  # lost attempts that make a trial FAIL
    Column("artifacts", Text, nullable=False, server_default="database"),  # the store's URL
    Column("result", JSONB),  # the final stage's outcome
    Column("reason", Text),  # why it failed
    Column("paused_at", DateTime(timezone=True)),  # nothing is claimed since then
    Column("paused_seconds", Double, nullable=False, server_default="0"),  # by former pauses
    Column("stopped", Text),  # why the search ends before its budget is spent
    Column("rules", Boolean, nullable=False, server_default="true"),  # whether they can stop it
    Column("imported", Integer, nullable=False, server_default="0"),  # trials of the budget
    Column("finals", Integer, nullable=False, server_default="0"),  # former final stages
    Column("priority", Integer, nullable=False, server_default="1"),  # its weight in a fleet
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ended_at", DateTime(timezone=True)),
    CheckConstraint("stage IN ('search', 'final', 'done', 'failed')", name="studies_stage"),
    Index("studies_open", "created_at", postgresql_where=text("stage IN ('search', 'final')")),
)

# Final stages that an extension has taken the place of: Optuna's studies NAME.final.1, and so on.
former_finals = Table(
    "former_finals",
    metadata,
    Column("search_id", Integer, primary_key=True, autoincrement=False),
    Column("final_id", Integer, nullable=False, unique=True),
    Column("edition", Integer, primary_key=True, autoincrement=False),  # from 0
    Column("budget", Integer, nullable=False),  # of the search when it was over
    Column("result", JSONB),
    Column("reason", Text),
    Column("ended_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# What became of each finalist after each block of a race; see `coordinator.race`.
decisions = Table(
    "decisions",
    metadata,
    Column("final_id", Integer, primary_key=True, autoincrement=False),  # Optuna's final stage
    Column("block", Integer, primary_key=True, autoincrement=False),  # 0: chosen by the search
    Column("finalist", Integer, primary_key=True, autoincrement=False),  # its rank
    Column("trial", Integer, nullable=False),  # its number in the search
    Column("verdict", Text, nullable=False),
    Column("seeds", Integer, nullable=False),  # of it by then
    Column("mean", Double),  # over these
    Column("p", Double),  # the probability that it is the best of those that stood
    Column("level", Double),  # with which it leaves
    Column("why", Text, nullable=False),
    Column("made_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    CheckConstraint("block >= 0", name="decisions_block_check"),
    CheckConstraint(
        "verdict IN ('enters', 'stays', 'waits', 'out', 'failed', 'wins', 'equivalent', 'behind',"
        " 'confirming', 'confirmed', 'spent')",
        name="decisions_verdict_check",
    ),
)

# One row per run of a trial by a worker. The open one (not ended) is the trial's lease, and its
# primary key the fence: an identity column only grows.
attempts = Table(
    "attempts",
    metadata,
    Column("fence", BigInteger, Identity(always=True), primary_key=True),
    Column("trial_id", Integer, nullable=False),
    Column(
        "claim_id", Uuid, nullable=False, unique=True
    ),  # made by the worker: claims repeat safely
    Column("worker", Text, nullable=False),
    Column("claimed_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("lease", Interval, nullable=False),  # how far each extension reaches
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("outcome", Text),
    # the last step of a report that is stored, or of the checkpoint that the attempt began at
    Column("step", BigInteger, nullable=False, server_default="0"),
    CheckConstraint(
        "(ended_at IS NULL) = (outcome IS NULL) AND outcome IN ('finished', 'released', 'lost')",
        name="attempts_outcome",
    ),
    # At most one lease per trial, whatever the code above it does.
    Index("attempts_lease", "trial_id", unique=True, postgresql_where=text("ended_at IS NULL")),
    Index("attempts_trial", "trial_id"),
    # For whoever counts what a study has lost: few of very many.
    Index("attempts_lost", "trial_id", postgresql_where=text("outcome = 'lost'")),
)

# What trials measured: a row is one metric at one step, a value of each agent.
metrics = Table(
    "metrics",
    metadata,
    Column("trial_id", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),  # of each agent
    Column("values", ARRAY(Double), nullable=False),  # [S]; NaN where an agent has none
)

# Where an interrupted trial goes on. One row per trial: the newest checkpoint that is safe.
checkpoints = Table(
    "checkpoints",
    metadata,
    Column("trial_id", Integer, primary_key=True, autoincrement=False),
    Column("step", BigInteger, nullable=False),  # environment steps of each agent
    Column("rungs", Integer, nullable=False),  # of successive halving, completed by then
    Column("artifact", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)

# Which coordinator leads a study; the others stand by until its lease runs out.
leaders = Table(
    "leaders",
    metadata,
    Column("study", Text, primary_key=True),
    Column("coordinator", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

# Who is there, for people who watch. Nothing is decided from it.
workers = Table(
    "workers",
    metadata,
    Column("worker", Text, primary_key=True),
    Column("study", Text, nullable=False),  # empty while a worker of the fleet is idle
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    Column("trial_number", Integer),
    Column("step", BigInteger),
    Column("steps_per_second", Double),  # agent-steps
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("seen_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("ended_at", DateTime(timezone=True)),
    # how many claims took how long: a count for each of `workers.CLAIM_BUCKETS`, then the rest
    Column("claims", ARRAY(BigInteger), nullable=False, server_default="{}"),
    Column("claim_seconds", Double, nullable=False, server_default="0"),  # their sum
    Column("database_errors", BigInteger, nullable=False, server_default="0"),
)

# How many trials of an Optuna study are in each state, and the order in which they finished. A
# trigger on Optuna's trials keeps both; nobody else writes them.
counters = Table(
    "counters",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False),
    *(
        Column(state, Integer, nullable=False)
        for state in ("waiting", "running", "complete", "pruned", "failed")
    ),
    Column("finished", BigInteger, nullable=False),  # the last position in `finished`
    Column("claimed", BigInteger, nullable=False, server_default="0"),  # fence of the last claim
)
finished = Table(
    "finished",
    metadata,
    Column("study_id", Integer, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("trial_id", Integer, nullable=False, unique=True),
)

# One row, made by the migration: what tells this database's artifacts from another's.
identity = Table(
    "identity",
    metadata,
    Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
)

# Whose an artifact is, in whatever store its bytes lie. It outlives its owner until they are gone.
artifacts = Table(
    "artifacts",
    metadata,
    Column("artifact", Text, primary_key=True),  # its name in the store
    Column("store", Text, nullable=False),  # the store's URL
    Column("kind", Text, nullable=False),
    Column("search_id", Integer, nullable=False),  # the study's
    Column("trial_id", Integer),  # None for the study's own
    Column("fence", BigInteger),  # of the attempt that wrote it
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("removed_at", DateTime(timezone=True)),  # when the sweep first removed its bytes
    CheckConstraint("kind IN ('checkpoint', 'model', 'best')", name="artifacts_kind"),
)

# The default artifact store: a blob is its chunks, and exists once its own row does.
blobs = Table(
    "blobs",
    metadata,
    Column("blob_id", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),  # bytes
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
blob_chunks = Table(
    "blob_chunks",
    metadata,
    Column("blob_id", Text, ForeignKey(blobs.c.blob_id, ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)
