"""One candidate measured in a process of its own: `python -m tunesmith.run.select.candidate FOLDER PARENT`.

FOLDER holds job.json; features (.npy) and last of all result.json come into it. A process of its own, so that the peak
memory is the candidate's, and one that crashes takes nothing with it. It ends with its parent (on Linux).
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.errors import TunesmithError
from tunesmith.lifetime import bound_to
from tunesmith.tasks import base as tasks
from tunesmith.tasks.base import Task
from tunesmith.train.checkpoint import write_atomically
from tunesmith.types import Example, Pretrained

JOB, RESULT, ROWS = "job.json", "result.json", "rows.jsonl"
TRAINED_AT_ONCE = 16
TIMED_STEPS = 3
BYTES_A_VALUE = 16
"""A value that learns: itself, its gradient, and AdamW's two means, each float32."""


def measure(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Features to `folder`, and what else was measured. TunesmithError where the model cannot be used.

    job: task (name and options), path (of the model), labels, multi_label, rows (a JSON-lines file of the examples).
    """
    from tunesmith.run.select.untouched import features_of
    from tunesmith.train.device import Device, fast_at_bfloat16
    from tunesmith.train.memory import keep_freed_memory, peak_mib

    keep_freed_memory()
    device = Device()
    device.precision = "bfloat16" if fast_at_bfloat16(device.device) else "float32"  # as `train.precision: auto`
    task = tasks.registry.make(job["task"])
    examples = read_rows(Path(job["rows"]))
    source = task.find_model(job["path"], revision=None, weights=None, pretrained=True)
    pretrained = task.load(source, job["labels"], multi_label=job["multi_label"], seed=0)
    device.place(pretrained.model)
    task, tokenizer, lengths = _cut(task, pretrained, examples)
    found = features_of(task, pretrained, examples, lengths, device)
    files = {}
    for number, (way, features) in enumerate(found.features.items()):
        files[way] = f"features_{number}.npy"
        np.save(folder / files[way], features)
    result = {
        "parameters": sum(p.numel() for p in pretrained.model.parameters()),
        "features": files,
        "tokenizer": tokenizer,
        "examples_a_second": found.examples_a_second,
        "answering_mib": peak_mib(),
        "precision": device.precision,
    }
    del found
    return result | _training(task, pretrained, examples, job, device)


def _cut(
    task: Task, pretrained: Pretrained, examples: Sequence[Example]
) -> tuple[Task, dict[str, Any] | None, np.ndarray]:
    """The task with `max_length` settled as `auto` would, how the tokenizer fits, and lengths after the cut."""
    if task.kind != "texts":
        return task, None, np.ones(len(examples), dtype=np.int64)
    from tunesmith.models.tokenizer_fit import tokenizer_fit

    lengths = task.lengths(examples, pretrained)
    limit = min(task.longest, task.longest_input(pretrained) or task.longest)
    asked = getattr(task, "max_length", "auto")
    most = asked if isinstance(asked, int) else max(8, min(limit, 8 * -(-int(np.percentile(lengths, 99)) // 8)))
    texts = [str(value) for example in examples for value in example.inputs.values()]
    fit = tokenizer_fit(pretrained.processor, texts, lengths.tolist(), most)
    return task.model_copy(update={"max_length": most}), asdict(fit), np.minimum(lengths, most)


def _training(
    task: Task, pretrained: Pretrained, examples: Sequence[Example], job: Mapping[str, Any], device: Any
) -> dict[str, Any]:
    """Speed and peak memory of updates in which all weights learn; empty, with the reason, where memory would not do.

    The batch is spread over the examples, whose lengths are then as they come.
    """
    from tunesmith.methods.base import registry
    from tunesmith.run.pace import timed
    from tunesmith.train import randomness
    from tunesmith.train.memory import MIB, held_mib, peak_mib
    from tunesmith.train.optimizer import Rates, make_optimizer

    values = sum(p.numel() for p in pretrained.model.parameters())
    free = _available_mib()
    if free is not None and (BYTES_A_VALUE - 4) * values / MIB > 0.8 * free:
        needed = held_mib() + (BYTES_A_VALUE - 4) * values / MIB
        reason = f"full fine-tuning needs more than {needed:,.0f} MiB, which is not free here"
        return {"training": None, "training_mib": None, "training_reason": reason}
    method = registry.make("full")
    model = method.prepare(pretrained)
    randomness.use_counter_dropout(model)
    learned = method.learned(model)
    optimizer = make_optimizer(learned, pretrained.anatomy, Rates(1e-6, 1e-6, 0.0, 1.0))
    chosen = [examples[int(i)] for i in np.linspace(0, len(examples) - 1, min(TRAINED_AT_ONCE, len(examples)))]
    targets = task.targets(chosen, job["labels"])
    encoded = task.encode(chosen, pretrained.processor)
    batch = device.move(task.collate(encoded, targets, pretrained.processor, positions=range(len(chosen))))
    method.training_mode(model)

    def step(number: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        randomness.begin(0, number, batch.positions)
        with device.arithmetic():
            loss = task.loss(model, batch)
        (loss.total / loss.count).backward()
        optimizer.step()

    step(1)  # warms up, and makes the optimizer's state
    seconds = statistics.median(timed(step, number) for number in range(2, 2 + TIMED_STEPS))
    return {"training": len(chosen) / seconds, "training_mib": peak_mib(), "training_reason": ""}


def _available_mib() -> float | None:
    """Memory that is free, on an accelerator there; None where the system does not tell."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] / 2**20
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) / 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def write_rows(examples: Sequence[Example], path: Path) -> None:
    """Examples as JSON lines, for the processes that measure."""
    lines = [json.dumps({"inputs": dict(e.inputs), "label": e.label}, ensure_ascii=False) for e in examples]
    write_atomically(path, "".join(f"{line}\n" for line in lines))


def read_rows(path: Path) -> list[Example]:
    """What `write_rows` wrote."""
    found = []
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            row = json.loads(line)
            label = tuple(row["label"]) if isinstance(row["label"], list) else row["label"]
            found.append(Example(row["inputs"], label, str(path), number))
    return found


def main(folder: Path, parent: int) -> int:
    """Measure, and write what came of it; a fault of the model is a result too."""
    bound_to(parent)()
    job = json.loads((folder / JOB).read_text(encoding="utf-8"))
    try:
        result = measure(job, folder)
    except TunesmithError as fault:
        result = {"fault": str(fault)}
    write_atomically(folder / RESULT, json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
