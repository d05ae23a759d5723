"""Files, processes, versions and secrets: no training."""
