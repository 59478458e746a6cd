"""Results to terminal, JSON, CSV and Markdown; no torch."""
