"""`freeze_` and the handle that it returns: one object over freezing and verify."""
