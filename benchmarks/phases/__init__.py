"""Plans over time: exact resume, equal ranks, the cost of a change, and all models by phase."""
