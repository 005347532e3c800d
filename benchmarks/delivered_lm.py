"""Whether plain programs answer as tunesmith does: greedy answers of a finished run's language model to many prompts.

    python benchmarks/delivered_lm.py RUN --data FILE [--prompts 50] [--tokens 32]

Three programs answer the first questions of a JSON lines file with an `instruction` each: tunesmith; peft over the base
model, by the few lines of the model card; and transformers alone on the run's merged model. Counted are answers that
are the same token by token. All compute in float32; sums in another order may still turn a tie the other way.
"""

from __future__ import annotations

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tunesmith.deploy.predictor import Predictor, Writing
from tunesmith.run.earlier import model_of


def plain(model: Any, folder: Path, asked: list[str], tokens: int) -> list[list[int]]:
    """As the model card has it: one prompt at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ways = GenerationConfig.from_pretrained(folder)
    ways.update(max_new_tokens=tokens, do_sample=False)
    found = []
    for text in asked:
        chat = [{"role": "user", "content": text}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            answer = model.generate(**prompt, generation_config=ways)[0, prompt["input_ids"].shape[1] :]
        found.append(answer.tolist())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=32)
    given = parser.parse_args()
    with given.data.open(encoding="utf-8") as file:
        asked = [json.loads(line)["instruction"] for line in islice(file, given.prompts)]
    predictor = Predictor(given.run)
    answers = predictor.write([predictor.chat_of(text) for text in asked], Writing(most_tokens=given.tokens))
    ours = [list(each.tokens) for each in answers]
    best = given.run / "best"
    base = json.loads((best / "adapter_config.json").read_text("utf-8"))["base_model_name_or_path"]
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), best).eval()
    merged = model_of(str(given.run))
    whole = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
    for name, model, folder in (("plain peft", peft, best), ("merged, plain transformers", whole, Path(merged))):
        theirs = plain(model, folder, asked, given.tokens)
        ends = set(model.generation_config.eos_token_id if isinstance(model.generation_config.eos_token_id, list)
                   else [model.generation_config.eos_token_id])  # fmt: skip
        same = sum([t for t in a if t not in ends] == [t for t in b if t not in ends]
                   for a, b in zip(ours, theirs, strict=True))  # fmt: skip
        print(f"{name}: {same} of {len(asked)} answers are tunesmith's, token by token", flush=True)


if __name__ == "__main__":
    main()
