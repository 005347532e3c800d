"""The spine: from a recipe to a proven run folder."""
