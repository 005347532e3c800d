"""Rows are rounded up, so that few shapes recur, and never beyond what the model has places for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.tasks import _language as language
from tunesmith.tasks._widths import width
from tunesmith.tasks.causal_lm import CausalLm
from tunesmith.tasks.preference import Preference
from tunesmith.tasks.text_classification import TextClassification
from tunesmith.types import Pretrained


@given(st.integers(0, 4096), st.integers(1, 4096), st.sampled_from([4, 8]))
def test_rows_hold_their_longest_add_little_and_stay_within_the_most(longest: int, most: int, multiple: int) -> None:
    longest = min(longest, most)
    found = width(longest, most, multiple=multiple)
    assert max(1, longest) <= found <= most
    assert found - longest < max(multiple, longest / 16)
    assert width(longest, "auto", multiple=multiple) == max(1, longest)


def test_few_shapes_recur() -> None:
    assert len({width(longest, 512) for longest in range(1, 129)}) == 32
    assert len({width(longest, 512) for longest in range(1, 513)}) == 64
    assert width(5, 512) == 8
    assert width(130, 512) == 136
    assert width(257, 512) == 272


def test_texts_to_learn_from_are_rounded_and_texts_to_answer_are_not(tiny: Callable[..., Pretrained]) -> None:
    processor = tiny("bert").processor
    rows: Any = [{"input_ids": [2, 7, 3]}, {"input_ids": [2, 7, 8, 9, 3]}]
    for most, places, wanted in ((128, [0, 1], 8), (6, [0, 1], 6), (128, None, 5), ("auto", [0, 1], 5)):
        made = TextClassification(max_length=most).collate(rows, None, processor, positions=places)  # type: ignore[arg-type]
        assert made.inputs["input_ids"].shape == (2, wanted)
        assert made.inputs["attention_mask"].sum(dim=1).tolist() == [3, 5]


@pytest.mark.parametrize("most", [20, 21, 250])
def test_rows_of_a_language_model_end_where_its_places_do(most: int, tiny: Callable[..., Pretrained]) -> None:
    processor = tiny("llama_lm").processor
    ids = list(np.arange(most) % 9 + 1)
    row = {"input_ids": ids, "labels": ids}
    for made in (language.padded, language.packed):
        assert made([row, row], 0, None, most=most).inputs["input_ids"].shape == (2, most)
    for packs in (False, True):
        task = CausalLm(max_length=most, packing=packs)
        assert task.collate([row], np.zeros(1), processor).inputs["input_ids"].shape == (1, most)
    answer = {"input_ids": ids, "sizes": [most], "starts": [2]}
    made_batch = Preference(max_length=most).collate([answer], None, processor)  # type: ignore[list-item]
    assert made_batch.inputs["input_ids"].shape == (1, most)
