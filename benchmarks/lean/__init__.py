"""Lean compared with stock: gradients with the same bits, and never more memory."""
