"""Stages and their inputs: directories, digests, processes."""
