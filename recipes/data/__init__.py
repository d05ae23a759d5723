"""From a data set's rows to token ids, once for all methods."""
