"""A person's files to clean, split, countable examples on disk."""
