"""What every method promises, on every tiny model: a new file in `methods/` is tested here as soon as it exists."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, registry
from tunesmith.train.randomness import begin, use_counter_dropout
from tunesmith.types import Pretrained

from ..conftest import TINY_MODELS

VARIANTS: dict[str, dict[str, Any]] = {
    "lora rslora": {"variant": "rslora", "targets": "attention"},
    "lora dora": {"variant": "dora", "dropout": 0.1},
    "lora pissa": {"variant": "pissa", "rank": 4},
    "lora olora": {"variant": "olora", "rank": 4},
    "lora some": {"targets": ["down", "attention"]},
    "prefix_tuning projection": {"projection": True, "length": 5},
    "prompt_tuning text": {"initialisation": "text", "text": "a good film", "length": 5},
    "p_tuning lstm": {"encoder": "lstm", "length": 5},
}
VARIANT_MODELS = ("bert", "gpt2")
"""Variants run on an encoder and on a decoder that stores its weights turned; plain methods run on every model."""

NO_PAST = "takes no past keys and values"
TURNED = "stores its layers' weights turned"
NO_BIAS = "no bias terms outside its head"
CANNOT = {
    ("prefix_tuning", "distilbert"): NO_PAST,
    ("prefix_tuning", "albert"): NO_PAST,
    ("prefix_tuning", "deberta-v2"): NO_PAST,
    ("prefix_tuning", "modernbert"): NO_PAST,
    ("oft", "gpt2"): TURNED,
    ("lokr", "gpt2"): TURNED,
    ("loha", "gpt2"): TURNED,
    **{("visual_prompt", kind): "is for pictures" for kind in TINY_MODELS},
    **{("llama_adapter", kind): "is for language models" for kind in TINY_MODELS},
    ("bitfit", "llama"): NO_BIAS,
    ("bitfit", "modernbert"): NO_BIAS,
}
TEXTS = ["a good film", "the plot was very dull and not a story", "great actor", "bad"]
DECODERS = ("gpt2", "llama")
CHANGES_AT_ONCE = ("prefix_tuning", "prompt_tuning", "p_tuning")
"""Methods whose papers start from random tokens; every other leaves the answers as they were until it has learned."""
STEPS = 6
ALL = [(name, kind) for name in registry.names() for kind in TINY_MODELS] + [
    (case, kind) for case in VARIANTS for kind in VARIANT_MODELS
]
WORKING = [pair for pair in ALL if pair not in CANNOT]
working = pytest.mark.parametrize(("case", "kind"), WORKING, ids=[" on ".join(pair) for pair in WORKING])

Load = Callable[..., Pretrained]


@dataclass(frozen=True)
class Checkpoint:
    """All that resuming may use, taken in the middle of training."""

    learned: Mapping[str, Tensor]
    state: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]
    logits: Tensor


@dataclass(frozen=True)
class Trained:
    """A model after six steps, and what it was before."""

    method: Method
    pretrained: Pretrained
    model: nn.Module
    untouched: Tensor
    fresh: Tensor
    start: Mapping[str, Tensor]
    without_gradient: set[str]
    middle: Checkpoint
    logits: Tensor


def make(case: str) -> Method:
    return registry.make({"name": case.split(" ")[0], **VARIANTS.get(case, {})})


def prepared(method: Method, pretrained: Pretrained) -> nn.Module:
    torch.manual_seed(11)
    model = method.prepare(pretrained)
    use_counter_dropout(model)
    return model.eval()


def batch_of(pretrained: Pretrained) -> dict[str, Tensor]:
    encoded = pretrained.processor(TEXTS, padding=True, return_tensors="pt")
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def answers(model: nn.Module, inputs: Mapping[str, Tensor], *, singly: bool = False) -> Tensor:
    model.eval()
    with torch.no_grad():
        if not singly:
            logits: Tensor = model(**inputs).logits
            return logits
        lengths = inputs["attention_mask"].sum(dim=1).tolist()
        rows = [{k: v[i : i + 1, :n] for k, v in inputs.items()} for i, n in enumerate(lengths)]
        return torch.cat([model(**row).logits for row in rows])


def train(
    method: Method, model: nn.Module, inputs: Mapping[str, Tensor], optimizer: Any, first: int, last: int
) -> set[str]:
    """Steps `first` to `last` of six; names of learned parameters that no step brought a gradient."""
    missing = {n for n, p in model.named_parameters() if p.requires_grad}
    targets = torch.tensor([0, 1, 2, 1])
    for step in range(first, last + 1):
        method.training_mode(model)
        begin(0, step, range(len(targets)))
        loss = nn.functional.cross_entropy(model(**inputs).logits, targets)
        loss.backward()
        method.after_backward(model, step, STEPS)
        missing -= {n for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        method.after_step(model, step, STEPS)
        optimizer.zero_grad()
    return missing


def optimizer_of(method: Method, model: nn.Module) -> Any:
    return torch.optim.AdamW(method.learned(model).values(), lr=3e-3)


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@functools.cache
def _trained(case: str, load: Load, kind: str) -> Trained:
    import copy

    method, pretrained = make(case), load(kind)
    inputs = batch_of(pretrained)
    untouched = answers(pretrained.model, inputs)
    model = prepared(method, pretrained)
    fresh, optimizer = answers(model, inputs), optimizer_of(method, model)
    start = copied(dict(model.named_parameters()) | dict(model.named_buffers()))
    missing = train(method, model, inputs, optimizer, 1, 3)
    middle = Checkpoint(
        copied(method.learned(model)),
        copied(method.state(model)),
        copy.deepcopy(optimizer.state_dict()),
        answers(model, inputs),
    )
    train(method, model, inputs, optimizer, 4, STEPS)
    after = answers(model, inputs)
    return Trained(method, pretrained, model, untouched, fresh, start, missing, middle, after)


@pytest.fixture
def trained(case: str, kind: str, tiny: Load) -> Trained:
    return _trained(case, tiny, kind)


@working
def test_every_learned_tensor_moves_and_every_other_stays(trained: Trained) -> None:
    learned = trained.method.learned(trained.model)
    now = dict(trained.model.named_parameters()) | dict(trained.model.named_buffers())
    assert not trained.without_gradient
    assert set(learned) == {n for n, p in trained.model.named_parameters() if p.requires_grad}
    still = {n for n in learned if torch.equal(now[n], trained.start[n])}
    # Adding the same number to every key changes no softmax, so a key's bias may stand still.
    assert not {n for n in still if not n.endswith(("key.bias", "key_proj.bias", "k_lin.bias"))}
    changed = {n for n, t in trained.start.items() if n not in learned and not torch.equal(now[n], t)}
    assert not changed


@working
def test_a_fresh_method_leaves_the_answers_as_they_were(trained: Trained) -> None:
    if trained.method.name in CHANGES_AT_ONCE:
        assert not torch.allclose(trained.fresh, trained.untouched, atol=1e-3)
    else:  # to float32 rounding: pissa and olora take the weights apart and put them together again
        torch.testing.assert_close(trained.fresh, trained.untouched, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(trained.fresh, trained.logits, atol=1e-3)


@working
def test_the_whole_head_learns(trained: Trained) -> None:
    learned = trained.method.learned(trained.model)
    for head in trained.pretrained.anatomy.head:
        assert any(f".{head}." in f".{name}" for name in learned), head


@working
def test_a_restored_model_answers_alike_and_trains_on_alike(trained: Trained, kind: str, tiny: Load) -> None:
    method, middle, pretrained = trained.method, trained.middle, tiny(kind)
    model = prepared(method, pretrained)
    with torch.no_grad():
        for name, tensor in method.learned(model).items():
            tensor.copy_(middle.learned[name])
    method.restore(model, middle.state)
    inputs, optimizer = batch_of(pretrained), optimizer_of(method, model)
    optimizer.load_state_dict(middle.optimizer)
    assert torch.equal(answers(model, inputs), middle.logits)
    assert set(method.state(model)) == set(middle.state)
    train(method, model, inputs, optimizer, 4, STEPS)
    expected = trained.method.learned(trained.model)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in method.learned(model).items())
    assert torch.equal(answers(model, inputs), trained.logits)


@working
def test_what_is_saved_loads_in_a_plain_program_and_answers_alike(
    trained: Trained, case: str, kind: str, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    trained.method.save(trained.model, tmp_path, trained.pretrained)
    torch.manual_seed(99)  # what the program draws for a missing head must not matter
    if (tmp_path / "adapter_config.json").exists():
        base = AutoModelForSequenceClassification.from_pretrained(trained.pretrained.source.path, num_labels=3)
        plain = PeftModel.from_pretrained(base, tmp_path)
    else:
        plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    # With embeddings as inputs, transformers' decoders answer from the last place of a batch, padding or not.
    singly = kind in DECODERS and case.split(" ")[0] in ("prompt_tuning", "p_tuning")
    got = answers(plain, batch_of(trained.pretrained), singly=singly)
    # float32; other attention kernels and (pissa, olora) twice the rank in another order of sums
    tolerance = 1e-4 if case in ("lora olora", "lora pissa") else 1e-5
    torch.testing.assert_close(got, trained.logits, atol=tolerance, rtol=1e-4)


@working
def test_a_merged_copy_answers_alike_and_the_trained_model_is_left_alone(trained: Trained) -> None:
    inputs = batch_of(trained.pretrained)
    before = copied(trained.model.state_dict())
    merged = trained.method.merge(trained.model)
    torch.testing.assert_close(answers(merged, inputs), trained.logits, atol=1e-4, rtol=1e-4)  # float32 sums reordered
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.model.state_dict().items())
    assert torch.equal(answers(trained.model, inputs), trained.logits)
    assert all(p.requires_grad for p in trained.method.learned(trained.model).values())


@working
def test_padding_changes_no_answer(trained: Trained) -> None:
    inputs = batch_of(trained.pretrained)
    torch.testing.assert_close(answers(trained.model, inputs, singly=True), trained.logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("case", "kind"), list(CANNOT), ids=[" on ".join(pair) for pair in CANNOT])
def test_a_model_that_cannot_use_a_method_is_refused_with_others_that_work(case: str, kind: str, tiny: Load) -> None:
    with pytest.raises(ModelError, match=CANNOT[case, kind]) as caught:
        make(case).prepare(tiny(kind))
    assert "lora" in str(caught.value)
