"""Plans over time: transitions of a live training."""
