"""The line from the untouched to the tuned model: its ends, and its middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from tunesmith.errors import ModelError
from tunesmith.methods.base import registry
from tunesmith.types import Pretrained

from . import test_methods as texts
from . import test_vision_methods as pictures
from .tuned import PARAMS, Tuned, body, put, tune

NO_LINE = ("head", "prefix_tuning", "prompt_tuning", "p_tuning", "visual_prompt")


@pytest.fixture(scope="module", params=PARAMS)
def tuned(request: pytest.FixtureRequest, tiny: Callable[..., Pretrained]) -> Iterator[Tuned]:
    yield tune(*request.param, tiny)
    tune.cache_clear()


def test_the_lines_ends_are_untouched_and_tuned_bit_for_bit(tuned: Tuned) -> None:
    method, learned = tuned.method, tuned.method.learned(tuned.model)
    first, last = body(tuned, tuned.start), body(tuned, texts.copied(learned))
    if not method.has_line:
        with pytest.raises(ModelError, match="no line"):
            method.between(first, last, 0.5)
        return
    for share, end in ((0.0, first), (1.0, last)):
        point = method.between(first, last, share)
        assert set(point) == set(end)
        assert all(torch.equal(tensor, end[name]) for name, tensor in point.items())
    middle = method.between(first, last, 0.5)
    assert set(middle) == set(last)
    moved = {n for n in last if not torch.equal(first[n], last[n])}
    assert any(not torch.equal(middle[n], last[n]) for n in moved)
    with pytest.raises(ValueError, match=r"1\.5"):
        method.between(first, last, 1.5)


def test_every_method_says_whether_it_has_a_line() -> None:
    assert {name for name in registry.names() if not registry.get(name).has_line} == set(NO_LINE)


PRODUCTS = ("lora", "lora rslora", "adalora", "vera", "loha", "lokr", "ia3", "adapter", "full")


@pytest.mark.parametrize("kind", ["bert", "timm_resnet", "timm_vit"])
@pytest.mark.parametrize("case", PRODUCTS)
def test_half_way_the_weights_have_changed_by_half(case: str, kind: str, tiny: Callable[..., Pretrained]) -> None:
    """The change of every weight in the merged model; in a wider one, what its new units add through their columns."""
    if (case, kind) in pictures.CANNOT:
        pytest.skip(pictures.CANNOT[case, kind])
    tuned = tune(case, kind, tiny)
    method, model = tuned.method, tuned.model
    last = texts.copied(method.learned(model))
    first, changed = body(tuned, tuned.start), body(tuned, last)
    own = method.learned(model)
    try:
        merged = {}
        for share in (0.0, 0.5, 1.0):
            put(own, method.between(first, changed, share))
            merged[share] = method.merge(model).state_dict()
    finally:
        put(own, last)
    widened = case == "adapter" and kind != "timm_resnet"
    moved = 0
    for name, whole in merged[1.0].items():
        if not whole.is_floating_point() or any(f".{h}." in f".{name}" for h in tuned.head_names):
            continue
        if widened and name.endswith(
            ("intermediate.dense.weight", "fc1.weight", "intermediate.dense.bias", "fc1.bias")
        ):
            assert torch.equal(merged[0.5][name], whole)  # the units' own rows are tuned at once
            continue
        change, half = whole - merged[0.0][name], merged[0.5][name] - merged[0.0][name]
        torch.testing.assert_close(half, change / 2, atol=1e-6, rtol=1e-5)
        moved += int(bool(change.any()))
    assert moved
