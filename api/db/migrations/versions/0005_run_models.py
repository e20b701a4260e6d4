"""The model of a run in a column of its own, so that lists of runs need not read the settings."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("prompt_runs", sa.Column("model", sa.Text(), nullable=True))
    runs = sa.table("prompt_runs", sa.column("model", sa.String), sa.column("settings", sa.JSON))
    op.execute(sa.update(runs).values(model=runs.c.settings["model"]["model"].as_string()))
    op.create_index("models_of_account", "prompt_runs", ["account_id", "model"])


def downgrade() -> None:
    op.drop_index("models_of_account", "prompt_runs")
    op.drop_column("prompt_runs", "model")
