"""What of a model learns: one file a method, found by its name."""
