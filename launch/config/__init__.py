"""The configuration: its schema, and the checks that reject it."""
