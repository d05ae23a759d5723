"""Break trainings at random and see that the same command finishes them as if nothing had happened."""
