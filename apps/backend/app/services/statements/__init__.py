"""Bank statements: CSV, OFX/QFX and QIF files to typed rows, without a database.

A file is read twice. `inspect_statement` looks at every row to decide how dates and amounts are written;
`read_statement` then yields typed batches. No convention is ever guessed row by row.
"""

from app.services.statements.dates import no_time_at_midnight
from app.services.statements.inspection import inspect_statement
from app.services.statements.layout import StatementLayout, StatementOptions
from app.services.statements.parse import ROW_SCHEMA, StatementBatch, preview, read_mccs, read_statement

__all__ = [
    "ROW_SCHEMA",
    "StatementBatch",
    "StatementLayout",
    "StatementOptions",
    "inspect_statement",
    "no_time_at_midnight",
    "preview",
    "read_mccs",
    "read_statement",
]
