"""Forecast memory, tokens, FLOPs and hours before anything is launched."""
