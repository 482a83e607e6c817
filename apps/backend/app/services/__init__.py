"""Use cases: functions that take a session and never commit."""
