"""Answers of models and endpoints, and judgements of them."""
