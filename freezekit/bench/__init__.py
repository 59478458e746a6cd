"""Memory and step time of freeze strategies, measured side by side; no torch in the parent."""
