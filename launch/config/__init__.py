"""A configuration: its schema, and what is refused in it."""
