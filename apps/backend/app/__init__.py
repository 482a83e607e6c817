"""Ledgermill: bank strings become categories that a person agrees with."""
