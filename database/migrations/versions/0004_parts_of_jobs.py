"""Jobs that are done in parts.

Revision: 0004
After: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("job", sa.Column("parent_id", sa.String(length=32), nullable=True))
    op.add_column("job", sa.Column("size", sa.Integer(), nullable=False, server_default="1"))
    op.create_index(op.f("ix_job_parent_id"), "job", ["parent_id"])


def downgrade() -> None:
    op.drop_index(op.f("ix_job_parent_id"), table_name="job")
    op.drop_column("job", "size")
    op.drop_column("job", "parent_id")
