"""Break trainings at random and check that the same command finishes them as if nothing had happened."""
