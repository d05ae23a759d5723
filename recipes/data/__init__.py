"""From a row of a data set to token ids, once for all methods."""
