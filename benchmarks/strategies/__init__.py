"""What every built-in strategy trains and keeps: static figures, and the catalogue made of them."""
