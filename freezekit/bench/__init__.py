"""Memory and step time of freeze strategies, measured side by side; the parent has no torch."""
