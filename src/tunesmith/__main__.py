"""`python -m tunesmith` is `tunesmith`."""

from __future__ import annotations

from tunesmith.cli import main

if __name__ == "__main__":
    main()
