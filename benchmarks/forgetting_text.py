"""What each method forgets of BBC news while it learns tweets, without and with each retention.

    python benchmarks/forgetting_text.py [--methods full lora ...] [--retentions none replay ...] [--seeds 3] [--jobs 2]
        [--old-rows N] [--new-rows N] [--work FOLDER] [key=value ...]

MiniLM is fine-tuned on BBC news (all of it learns), and from that run on tweets, by every method and retention through
`tunesmith compare`. Forgetting is the news accuracy before minus after, with the news run's own head on its own test
articles. Everything comes from pip packages (the `quickstart` extra). The folder is gone on with when given again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

METHODS = "full,lora,head,ia3,bitfit,prefix_tuning,prompt_tuning"
RETENTIONS = "none,replay,l2_sp,ewc,lwf,wise_ft"


def call(*words: str) -> None:
    print("+ tunesmith", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "tunesmith", *words], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--retentions", default=RETENTIONS)
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--old-rows", type=int, default=None, help="articles of the old task; else all 2,225")
    parser.add_argument("--new-rows", type=int, default=4000, help="tweets of the new one")
    parser.add_argument("--work", type=Path, default=Path("runs/forgetting_text"))
    given, settings = parser.parse_known_args()
    old = given.work / "news"
    if not (old / "scores.json").is_file():
        limit = [] if given.old_rows is None else [f"data.limit={given.old_rows}"]
        if (old / "recipe.yaml").is_file():
            call("resume", str(old))
        else:
            call("fit", "recipes/news_topics.yaml", "--method", "full", "--output", str(old),
                 "data.split.validation=0.1", "train.threads=1", *limit)  # fmt: skip
    call("compare", "recipes/quickstart.yaml", "--methods", given.methods, "--retentions", given.retentions,
         "--seeds", given.seeds, "--jobs", given.jobs, "--output", str(given.work / "tweets"), f"model={old}",
         f"data.limit={given.new_rows}", f"forgetting.old_tasks=[{old}]", "train.threads=1", *settings)  # fmt: skip


if __name__ == "__main__":
    main()
