"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "fedstill_1"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables, and the one row of the lease."""
    lease = op.create_table(
        "leadership",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("beat", sa.Double, nullable=False),
    )
    op.bulk_insert(lease, [{"id": 1, "epoch": 0, "owner": "", "beat": 0.0}])
    _create_parties()
    _create_runs()


def _create_parties() -> None:
    op.create_table(
        "parties",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("certificate", sa.Text, nullable=False),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("joined_at", sa.Double),
        sa.Column("last_seen", sa.Double),
    )
    op.create_table(
        "fingerprints",
        sa.Column("fingerprint", sa.Text, primary_key=True),
        sa.Column("party", sa.Text, sa.ForeignKey("parties.name"), nullable=False),
    )
    op.create_table(
        "invitations",
        sa.Column("token_hash", sa.Text, primary_key=True),
        sa.Column("party", sa.Text, sa.ForeignKey("parties.name"), nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
        sa.Column("used_at", sa.Double),
        sa.Column("used_by", sa.Text, nullable=False),
    )


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("terms_digest", sa.Text, nullable=False),
        sa.Column("terms", sa.LargeBinary, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("phase", sa.Text, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("run", sa.BigInteger, sa.ForeignKey("runs.number")),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )
    op.create_index("events_of_a_run", "events", ["run", "seq"])
    op.create_table(
        "letters",
        sa.Column("to", sa.Text, sa.ForeignKey("parties.name"), primary_key=True),
        sa.Column("run", sa.BigInteger, sa.ForeignKey("runs.number"), primary_key=True, autoincrement=False),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("letter", sa.LargeBinary, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, sa.ForeignKey("events.seq"), nullable=False),
    )


def downgrade() -> None:
    """Nothing goes back: a store that was written is not thrown away by a command."""
    raise NotImplementedError("go back to a copy of the database from before the upgrade")
