"""Lean against stock: the same gradients to the last bit, and never more memory."""
