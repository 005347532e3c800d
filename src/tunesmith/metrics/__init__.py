"""Scores from arrays: thin over scikit-learn and numpy."""
