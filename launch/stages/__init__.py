"""Stages and what they start from: directories, digests, processes."""
