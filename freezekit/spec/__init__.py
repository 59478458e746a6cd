"""A strategy, its typed options, and the text that names both."""
