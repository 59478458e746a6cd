"""Find plugins through entry points, load and check them, and look up their strategies."""
