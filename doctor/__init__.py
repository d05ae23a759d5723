"""Examine preference pairs before training: findings, lengths, and what each method reads."""
