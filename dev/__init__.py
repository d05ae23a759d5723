"""For developers of this repository: benchmarks and fault injection."""
