"""A method switched off gives the untouched model back, bit for bit."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import registry
from tunesmith.models.detectors import detect, detector_losses
from tunesmith.models.head_swap import with_head
from tunesmith.train.randomness import begin
from tunesmith.types import Pretrained

from ..tiny_detectors import OVER, batch, lively, load_kind, over_backbone
from . import test_methods as texts
from . import test_vision_methods as pictures
from .tuned import PARAMS, STEPS, Tuned, ask, load, logits_of, optimizer_of, put, tune, update


@pytest.fixture(scope="module", params=PARAMS)
def tuned(request: pytest.FixtureRequest, tiny: Callable[..., Pretrained]) -> Iterator[Tuned]:
    yield tune(*request.param, tiny)
    tune.cache_clear()


def state_of(model: nn.Module) -> dict[str, Any]:
    """Every tensor as an object and as bytes, every mode, and every plain attribute, where a switch could stay."""
    named = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    tensors = {n: (id(t), t.requires_grad, t.detach().clone().numpy().tobytes()) for n, t in named.items()}
    plain = {
        (name, key): value if isinstance(value, bool | int | float | str) else None
        for name, module in model.named_modules()
        for key, value in vars(module).items()
    }
    return {"tensors": tensors, "plain": plain, "modules": {n: id(m) for n, m in model.named_modules()}}


def test_off_it_answers_as_untouched_and_on_again_astune(tuned: Tuned) -> None:
    assert not np.allclose(tuned.untouched, tuned.tuned, atol=1e-3)
    before, start = state_of(tuned.model), texts.copied(tuned.start)
    with tuned.method.switched_off(tuned.model, tuned.start):
        assert np.array_equal(ask(tuned.model, tuned.inputs), tuned.untouched)
    assert np.array_equal(ask(tuned.model, tuned.inputs), tuned.tuned)
    assert state_of(tuned.model) == before
    assert all(torch.equal(tensor, start[name]) for name, tensor in tuned.start.items())


def test_an_old_head_on_it_while_off_gives_the_old_tasks_logits(tuned: Tuned) -> None:
    before = state_of(tuned.model)
    off = functools.partial(tuned.method.switched_off, tuned.model, tuned.start)
    head = functools.partial(with_head, tuned.model, tuned.old_head)
    for order in ((off, head), (head, off)):
        with ExitStack() as stack:
            for context in order:
                stack.enter_context(context())
            assert np.array_equal(ask(tuned.model, tuned.inputs), tuned.old_logits)
    assert state_of(tuned.model) == before
    if tuned.method.name != "head":
        with head():
            assert not np.array_equal(ask(tuned.model, tuned.inputs), tuned.old_logits)


def test_a_teacher_amid_a_step_changes_neither_gradients_nor_modes(tuned: Tuned) -> None:
    method, model = tuned.method, tuned.model

    def gradients(teach: Callable[[], object]) -> dict[str, bytes]:
        method.training_mode(model)
        begin(0, STEPS, range(4))
        loss = logits_of(model, tuned.inputs).square().sum()
        modes = [module.training for module in model.modules()]
        teach()
        assert [module.training for module in model.modules()] == modes
        loss.backward()
        found = {n: p.grad.numpy().tobytes() for n, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        return found

    def teach() -> None:
        with torch.no_grad(), method.switched_off(model, tuned.start):
            assert np.array_equal(ask(model, tuned.inputs), tuned.untouched)

    kept = texts.copied({n: t for n, t in method.learned(model).items() if not isinstance(t, nn.Parameter)})
    try:
        plain = gradients(lambda: None)
        put(method.learned(model), kept)  # statistics that move have moved
        assert plain
        assert gradients(teach) == plain
        put(method.learned(model), kept)
    finally:
        model.eval()
    assert np.array_equal(ask(model, tuned.inputs), tuned.tuned)


def test_it_may_be_switched_off_twice_and_comes_back_after_an_exception(tuned: Tuned) -> None:
    before, method, model = state_of(tuned.model), tuned.method, tuned.model
    with method.switched_off(model, tuned.start):
        with method.switched_off(model, tuned.start):
            assert np.array_equal(ask(model, tuned.inputs), tuned.untouched)
        assert np.array_equal(ask(model, tuned.inputs), tuned.untouched)
    with pytest.raises(KeyError, match="inside"), method.switched_off(model, tuned.start):
        raise KeyError("inside")
    assert state_of(model) == before
    assert np.array_equal(ask(model, tuned.inputs), tuned.tuned)


@pytest.mark.parametrize("case", ["full", "bitfit", "lora", "lora pissa", "adapter"])
def test_under_an_outer_autocast_no_cast_of_a_tuned_weight_is_used(case: str, tiny: Callable[..., Pretrained]) -> None:
    """Autocast keeps its bfloat16 copies of what learns until its outermost context ends."""
    tuned = tune(case, "bert", tiny)
    untouched = load("bert", tiny, 3, 0).model
    with torch.autocast("cpu", torch.bfloat16):
        expected = logits_of(untouched, tuned.inputs).detach().float().numpy()
    with torch.autocast("cpu", torch.bfloat16):
        student = logits_of(tuned.model, tuned.inputs)
        with torch.no_grad(), tuned.method.switched_off(tuned.model, tuned.start):
            assert np.array_equal(logits_of(tuned.model, tuned.inputs).float().numpy(), expected)
        again = logits_of(tuned.model, tuned.inputs)
    assert torch.equal(again, student)
    again.sum().backward()
    learned = [p for p in tuned.method.learned(tuned.model).values() if p.grad is not None]
    tuned.model.zero_grad()
    assert learned


def test_training_mode_inside_writes_no_statistics_into_start(tiny: Callable[..., Pretrained]) -> None:
    tuned = tune("full moving", "timm_efficientnet", tiny)
    start = texts.copied(tuned.start)
    assert any(name.endswith("running_mean") for name in start)
    with torch.no_grad(), tuned.method.switched_off(tuned.model, tuned.start):
        tuned.method.training_mode(tuned.model)
        logits_of(tuned.model, tuned.inputs)
    assert all(torch.equal(tensor, start[name]) for name, tensor in tuned.start.items())
    assert np.array_equal(ask(tuned.model, tuned.inputs), tuned.tuned)


def test_while_only_the_head_learns_the_rest_goes_on_not_to(tiny: Callable[..., Pretrained]) -> None:
    method, pretrained = registry.make({"name": "linear_probe_then_full", "probe": 0.5}), tiny("bert")
    inputs = texts.batch_of(pretrained)
    untouched = ask(pretrained.model, inputs)
    model = texts.prepared(method, pretrained)
    start, optimizer = texts.copied(method.learned(model)), optimizer_of(method, model)
    update(method, model, inputs, optimizer, 1, 8)
    learning = {name: p.requires_grad for name, p in model.named_parameters()}
    assert not all(learning.values())
    with method.switched_off(model, start):
        assert np.array_equal(ask(model, inputs), untouched)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == learning
    assert not np.array_equal(ask(model.eval(), inputs), untouched)


@pytest.mark.parametrize(
    ("case", "kind"), [("full", "fcos"), ("lora", "faster_rcnn"), ("full", "deformable_detr"), ("lora", "yolos")]
)
def test_a_detector_switched_off_finds_what_it_found(case: str, kind: str, tmp_path: Path) -> None:
    """Its backbone's norms and, in Deformable DETR, class layers that share their weights included."""
    pretrained = over_backbone(kind) if kind in OVER else load_kind(kind, tmp_path)
    method, (inputs, targets) = pictures.make(case), batch(2, whole=True)
    if kind in OVER:
        lively(pretrained.model)
    untouched = detect(pretrained.model, inputs)
    model = pictures.prepared(method, pretrained)
    start = texts.copied(method.learned(model))
    optimizer = optimizer_of(method, model)
    method.training_mode(model)
    begin(0, 1, range(2))
    detector_losses(model, inputs, targets).total.backward()
    optimizer.step()
    tuned = detect(model, inputs)
    assert not np.allclose(tuned, untouched, atol=1e-3)
    with method.switched_off(model, start):
        assert np.array_equal(detect(model, inputs), untouched)
    assert np.array_equal(detect(model, inputs), tuned)


@pytest.mark.parametrize(("change", "words"), [("missing", "are missing"), ("unknown", "are not in it")])
def test_a_start_that_does_not_fit_is_refused(change: str, words: str, tiny: Callable[..., Pretrained]) -> None:
    tuned = tune("full", "bert", tiny)
    start = dict(tuned.start)
    taken = start.pop(next(iter(start)))
    if change == "unknown":
        start = {**tuned.start, "elsewhere.weight": taken}
    with pytest.raises(ModelError, match=words), tuned.method.switched_off(tuned.model, start):
        pass
    assert np.array_equal(ask(tuned.model, tuned.inputs), tuned.tuned)


def test_a_decoders_states_are_the_untouched_ones_too_while_its_prompts_are_off(
    tiny: Callable[..., Pretrained],
) -> None:
    """With prompts on, each text's last real state is put in the last place (`_prompts`)."""
    tuned, plain = tune("prompt_tuning", "gpt2", tiny), tiny("gpt2").model
    model: Any = tuned.model

    def states(whole: Any) -> Tensor:
        with torch.no_grad():
            found: Tensor = whole.transformer(**tuned.inputs).last_hidden_state
        return found

    assert not torch.equal(states(model.get_base_model()), states(plain))
    with tuned.method.switched_off(model, tuned.start):
        assert torch.equal(states(model.get_base_model()), states(plain))


def test_a_switched_off_model_can_be_copied_and_the_copy_switches_by_itself(tiny: Callable[..., Pretrained]) -> None:
    tuned = tune("prompt_tuning", "gpt2", tiny)
    with tuned.method.switched_off(tuned.model, tuned.start):
        pass
    twin = copy.deepcopy(tuned.model)
    with torch.no_grad():
        for parameter in tuned.method.learned(twin).values():
            parameter.zero_()
    assert np.array_equal(ask(tuned.model, tuned.inputs), tuned.tuned)
    assert not np.array_equal(ask(twin, tuned.inputs), tuned.tuned)
    with tuned.method.switched_off(twin, tuned.start):
        assert np.array_equal(ask(twin, tuned.inputs), tuned.untouched)
