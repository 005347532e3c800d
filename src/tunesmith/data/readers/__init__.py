"""Files to rows: one file a format, found by its name."""
