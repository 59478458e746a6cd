"""Lean's rules in C++, where they can be had: the same results in a fraction of the time.

`source/` holds the rules. `building` compiles them once for each version of torch, and keeps what
it made. `core` decides whether they run. Where they do not, the rules in Python do the same.
"""
