"""What a model is: how it is loaded, which input it takes, which layers it has."""
