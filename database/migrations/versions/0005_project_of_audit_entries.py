"""Which project an audited request was about.

Revision: 0005
After: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("audit_entry", sa.Column("project", sa.String(length=64), nullable=True))


def downgrade() -> None:
    op.drop_column("audit_entry", "project")
