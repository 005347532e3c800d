"""What the report is made of: the facts of a run folder, plain words for them, and pictures."""
