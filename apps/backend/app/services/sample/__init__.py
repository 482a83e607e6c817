"""A seeded household ledger for the demo and the tests; see `app.services.sample.ledger`."""

from app.services.sample.ledger import DEFAULT_END, DEFAULT_MONTHS, generate_ledger, write_ledger

__all__ = ["DEFAULT_END", "DEFAULT_MONTHS", "generate_ledger", "write_ledger"]
