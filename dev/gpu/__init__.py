"""`make gpu`: everything that only a GPU can show, measured by one command in order of priority."""
