"""transformers without its progress bars and load reports, and peft without asides, for as long as a block runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from transformers.utils import logging


@contextmanager
def quiet() -> Iterator[None]:
    """What the reports would say (weights that are missing or left over) is checked by `vet.py` instead."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # attributes that transformers is about to rename
            warnings.filterwarnings("ignore", "fan_in_fan_out is set")  # where GPT-2's layers have been turned about
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
