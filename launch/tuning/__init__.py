"""The search of `make compare ARGS="tune=8"`: what is tried, and what is tried next."""
