"""Measured figures: records, the result file, and the list of figures."""
