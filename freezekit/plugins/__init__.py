"""Plugins: found through entry points, loaded, checked, looked up."""
