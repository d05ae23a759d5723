"""Files, processes, versions and secrets; nothing about training."""
