"""The evaluation harness kept in its place while it works: nothing printed, nothing fetched, no draw left behind."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np

SEEDS = {"random": 0, "numpy": 1234, "torch": 1234, "examples": 1234}
"""What the harness's own command takes where nothing is said, so that its numbers come out here too."""
_CUT = ("Combined length of context", "Left truncation applied")
"""How the harness's notes begin where a prompt was longer than the model reads."""


class Heard(logging.Handler):
    """The harness's notes, none of them shown. cut: whether one said that a prompt lost its start."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = False

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is told of prompts that were too long."""
        self.cut = self.cut or record.getMessage().startswith(_CUT)


@contextmanager
def in_place(*, fetching: bool, own_file: bool) -> Iterator[Heard]:
    """While the harness works: its notes are heard and not shown, without bars, and generators are as it seeds them.

    fetching: whether it may ask the hub; else only what lies in the local cache is found. own_file: whether the task
    is a person's own file, whose templates are then filled in by a sandbox: a template could run code otherwise.
    """
    import datasets.config
    import lm_eval.api.model
    import lm_eval.api.task
    import lm_eval.models.huggingface
    import lm_eval.utils
    from huggingface_hub import constants

    from tunesmith.models.quiet import quiet

    bars = [lm_eval.api.task, lm_eval.api.model, lm_eval.models.huggingface]
    changes: list[tuple[ModuleType, str, Any]] = [(each, "tqdm", _without_bar(each.tqdm)) for each in bars]
    if not fetching:
        offline = (datasets.config, "HF_HUB_OFFLINE"), (datasets.config, "HF_DATASETS_OFFLINE")
        changes += [(module, name, True) for module, name in (*offline, (constants, "HF_HUB_OFFLINE"))]
    if own_file:
        changes.append((lm_eval.utils, "env", _sandbox(lm_eval.utils.env)))
    with quiet(), _data_unseen(), unseen() as heard, _instead(changes), _seeded():
        yield heard


def _without_bar(tqdm: Any) -> Any:
    def hidden(*given: Any, **named: Any) -> Any:
        return tqdm(*given, **{**named, "disable": True})

    return hidden


def _sandbox(usual: Any) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    made = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=usual.keep_trailing_newline)
    made.filters.update(usual.filters)
    return made


@contextmanager
def _instead(changes: Iterable[tuple[ModuleType, str, Any]]) -> Iterator[None]:
    """Other values of modules' names for a while."""
    kept = []
    try:
        for module, name, value in changes:
            kept.append((module, name, getattr(module, name)))
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in reversed(kept):
            setattr(module, name, value)


@contextmanager
def unseen() -> Iterator[Heard]:
    """Nothing of it reaches the terminal: notes go to what is yielded, words that it prints go nowhere."""
    logger, heard = logging.getLogger("lm_eval"), Heard()
    handlers, level, upwards = logger.handlers[:], logger.level, logger.propagate
    logger.handlers, logger.propagate = [heard], False
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield heard
    finally:
        logger.handlers, logger.propagate = handlers, upwards
        logger.setLevel(level)


@contextmanager
def _data_unseen() -> Iterator[None]:
    """Nothing is told of data that are read; what cannot be fetched is said in the error."""
    from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from datasets.utils import logging as of_datasets
    from huggingface_hub.utils import logging as of_hub

    levels, bars = [(each, each.get_verbosity()) for each in (of_datasets, of_hub)], not are_progress_bars_disabled()
    for each, _ in levels:
        each.set_verbosity(logging.ERROR)
    disable_progress_bars()
    try:
        yield
    finally:
        for each, level in levels:
            each.set_verbosity(level)
        if bars:
            enable_progress_bars()


@contextmanager
def _seeded() -> Iterator[None]:
    """The seeds of `SEEDS`; behind it all generators are as they were."""
    import torch

    plain, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        random.seed(SEEDS["random"])
        np.random.seed(SEEDS["numpy"])
        torch.manual_seed(SEEDS["torch"])
        try:
            yield
        finally:
            random.setstate(plain)
            np.random.set_state(numbers)
