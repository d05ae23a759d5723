"""`model=` and `dataset=` name anything: profiles are made for what has none."""
