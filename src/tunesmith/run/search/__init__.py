"""Search for a better recipe: trials, pruning, confirmation, page. Read `search.py` first."""
