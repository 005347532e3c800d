"""A run to predictions and files."""
