"""The base class of strategies, their typed options, and the text of a spec."""
