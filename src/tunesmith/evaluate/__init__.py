"""A model and examples to scores."""
