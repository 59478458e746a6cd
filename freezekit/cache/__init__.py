"""The frozen prefix of a model, computed once for each sample."""
