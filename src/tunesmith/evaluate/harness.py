"""Tasks of the lm-evaluation-harness, asked of a language model as it stands. READ FIRST of the harness files here.

Prompts, requests, filters and metrics are the harness's own, so the scores are those that it gives by itself (plain
prompts, without a chat template). What is kept is each document's value, so that intervals and differences can be
taken over documents. `harness_tasks.py` finds a task, `harness_quiet.py` keeps the library in its place.

Source: Biderman et al. 2024, Lessons from the Trenches on Reproducible Evaluation of Language Models, arXiv 2405.14782;
github.com/EleutherAI/lm-evaluation-harness.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tunesmith.errors import DataError, TunesmithError
from tunesmith.evaluate.harness_quiet import SEEDS, in_place
from tunesmith.evaluate.harness_tasks import FoundTask, find_task
from tunesmith.metrics import interval
from tunesmith.train.device import Device
from tunesmith.types import Interval, MainScore

REQUESTS = 4
"""Requests a forward pass: each holds logits of its whole vocabulary at every token. Answers are written one by one:
padding between learned tokens and a prompt would change what GPT-2 and its like write."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric of a task behind one of its filters. name: as scores call it; with the filter, where there are more."""

    name: str
    metric: str
    filter: str
    better: Literal["higher", "lower"]


class HarnessTask:
    """A task of the harness with its documents. Only metrics that are a mean over documents are taken; the first of
    them in the task's own list is the main score.

    most: documents that are scored, the first ones, at most; None: all. DataError where no metric is a mean.
    """

    def __init__(self, found: FoundTask, most: int | None) -> None:
        self.name, self.most, self._found = found.name, most, found
        self.measures, self.left_out = _measures(found)
        self.main = MainScore(self.measures[0].name, self.measures[0].better)
        self._cut = False
        if found.task.get_config("num_fewshot") is None:
            found.task.set_config("num_fewshot", 0)

    @property
    def rows(self) -> int:
        """Documents that are scored."""
        count = len(self._found.task.eval_docs)
        return count if self.most is None else min(count, self.most)

    @property
    def definition(self) -> str:
        """What is scored, in a sentence; also what was seen of prompts that were too long."""
        from importlib.metadata import version

        task, whole = self._found.task, len(self._found.task.eval_docs)
        count = f"all {whole:,}" if self.rows == whole else f"the first {self.rows:,} of {whole:,}"
        numbered = f"version {task.VERSION}, " if task.VERSION != "Yaml" else ""  # what it says where none is given
        told = (
            f"mean {self.main.name} over {count} documents of the lm-evaluation-harness task {self.name} ({numbered}"
            f"lm-eval {version('lm-eval')}, {task.get_config('num_fewshot')} examples before each, no chat template)."
        )
        if self._cut:
            told += " Prompts that were longer than the model reads lost their start."
        if self.left_out:
            told += f" Left out, since no mean over documents: {', '.join(self.left_out)}."
        return told

    def answers(self, model: nn.Module, tokenizer: Any, device: Device) -> np.ndarray:
        """Each document's value of each measure, float32 [documents, measures]; NaN where the task gives none.

        Every process does the whole of it. Leaves the model in evaluation mode, all else of it and all generators as
        they were. DataError where the task cannot be asked of this model.
        """
        from lm_eval import evaluate
        from lm_eval.models.huggingface import HFLM

        task, found = self._found.task, self._found
        model.eval()
        task.set_fewshot_seed(seed=SEEDS["examples"])
        with in_place(fetching=found.fetching, own_file=found.own_file) as heard, device.arithmetic():
            asked = HFLM(
                pretrained=_Asked(model, device),
                tokenizer=copy.deepcopy(tokenizer),  # it gets a padding token
                backend="causal",
                batch_size=1 if task.get_config("output_type") == "generate_until" else REQUESTS,
            )
            try:
                told = evaluate(lm=asked, task_dict={self.name: task}, limit=self.most, bootstrap_iters=0)
            except (TunesmithError, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:  # of templates, data and metrics alike
                said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                raise DataError(f"{found.whose} cannot be asked of this model ({said}).") from error
        self._cut = self._cut or heard.cut
        return self._by_document(told["samples"][self.name])

    def score(self, answers: np.ndarray) -> dict[str, float]:
        """The mean of each measure over the documents that have it; NaN where none has."""
        columns = np.asarray(answers, np.float64).T
        known = [column[~np.isnan(column)] for column in columns]
        means = [float(column.mean()) if len(column) else float("nan") for column in known]
        return {measure.name: value for measure, value in zip(self.measures, means, strict=True)}

    def interval(self, answers: np.ndarray, *, seed: int = 0) -> Interval:
        """The main score with its bootstrap interval over documents."""
        values = answers[:, 0][~np.isnan(answers[:, 0])]
        return interval.bootstrap_mean(values, seed=seed) if len(values) else _UNKNOWN

    def difference(self, first: np.ndarray, last: np.ndarray, *, seed: int = 0) -> Interval:
        """The main score of `last` minus that of `first`, with a paired bootstrap interval over documents."""
        known = ~np.isnan(first[:, 0]) & ~np.isnan(last[:, 0])
        if not known.any():
            return _UNKNOWN
        return interval.paired_mean_difference(first[known, 0], last[known, 0], seed=seed)

    def _by_document(self, samples: Sequence[Mapping[str, Any]]) -> np.ndarray:
        values = np.full((self.rows, len(self.measures)), np.nan, dtype=np.float32)
        for sample in samples:
            for column, measure in enumerate(self.measures):
                if sample["filter"] == measure.filter and measure.metric in sample:
                    values[int(sample["doc_id"]), column] = self._number(sample[measure.metric], measure)
        return values

    def _number(self, value: Any, measure: Measure) -> float:
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"{self._found.whose}: {measure.metric} of a document is no number, so it is no mean over documents; "
                "leave it out of metric_list in a task file of your own."
            ) from error


_UNKNOWN = Interval(float("nan"), float("nan"), float("nan"))


def open_harness(source: str, work: Path, most: int | None = None) -> HarnessTask:
    """The task that `harness:NAME`, or NAME alone, means; errors as in `harness_tasks.find_task` and `HarnessTask`."""
    return HarnessTask(find_task(source, work), most)


class _Asked:
    """The model as the harness asks it. It is no `nn.Module`, or its weights would be tied anew."""

    def __init__(self, model: Any, device: Device) -> None:
        self.model, self.device, self.config = model, device.device, model.config

    def __call__(self, input_ids: torch.Tensor) -> Any:
        return self.model(input_ids=input_ids)

    def generate(self, **given: Any) -> Any:
        return self.model.generate(**given)


def _measures(found: FoundTask) -> tuple[tuple[Measure, ...], tuple[str, ...]]:
    """What is taken, in the task's own order, and the metrics that are left out."""
    from lm_eval.api.metrics import mean, nanmean

    task = found.task
    summed, better = task.aggregation(), task.higher_is_better()
    filters = [str(each["name"]) for each in task.get_config("filter_list") or [{"name": "none"}]]
    means = [metric for metric, function in summed.items() if function in (mean, nanmean)]
    left_out = tuple(metric for metric in summed if metric not in means)
    if not means:
        raise DataError(
            f"{found.whose} is scored by {', '.join(left_out) or 'nothing'} alone, and only metrics that are a mean "
            "over documents can be compared here. For the loss on texts there is source: texts."
        )
    return tuple(
        Measure(
            metric if len(filters) == 1 else f"{metric},{each}",
            metric,
            each,
            "higher" if better.get(metric, True) in (True, None) else "lower",
        )
        for metric in means
        for each in filters
    ), left_out
