"""`make gpu`: everything that only a GPU can tell, measured by one command in order of worth."""
