"""Measurements of a session: statistics, rows and the table."""
