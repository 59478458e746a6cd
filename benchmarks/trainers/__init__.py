"""A fine-tune by each trainer that freezekit has a way into, beside a loop without freezekit."""
