"""The largest batch that fits into a memory, for each strategy."""
