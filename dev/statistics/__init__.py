"""How often the table's intervals cover the truth and its verdicts err, by simulation."""
