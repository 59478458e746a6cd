"""An observed forward pass, made into stages."""
