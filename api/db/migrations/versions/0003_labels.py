"""Names, tags and prompt versions of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prompt_versions",
        sa.Column("account_id", sa.String(length=255), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_id", sa.String(length=255), nullable=False),
        sa.Column("definition", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.account_id"]),
        sa.PrimaryKeyConstraint("account_id", "name", "version"),
    )
    op.create_index("version_of_content", "prompt_versions", ["account_id", "name", "content_id"], unique=True)
    op.add_column("prompt_runs", sa.Column("name", sa.String(length=255), nullable=True))
    op.add_column("prompt_runs", sa.Column("tags", sa.JSON(), nullable=True))
    op.add_column("prompt_runs", sa.Column("prompt_version", sa.Integer(), nullable=True))


def downgrade() -> None:
    for column in ("prompt_version", "tags", "name"):
        op.drop_column("prompt_runs", column)
    op.drop_table("prompt_versions")
