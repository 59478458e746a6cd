"""What a model is made of: loading, the read-only view, stages."""
