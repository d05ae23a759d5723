"""What preference pairs are like before anything trains on them: findings, lengths, and what each method reads."""
