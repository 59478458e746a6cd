"""Which torch function is run by which rule, and the rules."""
