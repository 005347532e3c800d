"""Compare methods and retentions over seeds: cells, statistics, verdict, page. Read `compare.py` first."""
