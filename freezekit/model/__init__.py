"""What a model is: how it is loaded, what it takes, which layers it has."""
