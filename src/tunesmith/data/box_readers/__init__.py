"""Pictures with boxes: one file a format, found by its name."""
