"""What all methods share around the trainer."""
