"""Responses of models and endpoints, and judgments of them."""
