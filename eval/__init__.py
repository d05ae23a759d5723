"""From stage directories to tables: what the trained models do, and what they cost."""
