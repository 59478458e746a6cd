"""The plan, and the functions that carry it out: the only code that changes a model."""
