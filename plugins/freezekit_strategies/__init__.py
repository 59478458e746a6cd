"""The built-in strategies, found through entry points like anybody's; one module each."""
