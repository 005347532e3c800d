"""What every method promises, on every tiny picture model: conv nets and vision transformers of three libraries."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, registry
from tunesmith.train.randomness import begin, use_counter_dropout
from tunesmith.types import Pretrained

from ..pictures_models import SIDE, TINY_VISION, tiny_vision_source

LABELS = ("ant", "bee", "cat")
SHORT: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2},
    "lokr": {"rank": 2},
    "loha": {"rank": 2},
    "adalora": {"rank": 2, "start_rank": 3},
    "vera": {"rank": 4},
    "adapter": {"size": 8},
    "visual_prompt": {"length": 3},
    "prefix_tuning": {"length": 3},
    "last_blocks": {"blocks": 1},
}
"""Small sizes, so that the tests are quick."""

VARIANTS: dict[str, dict[str, Any]] = {
    "lora dora": {"variant": "dora", "rank": 2, "dropout": 0.1},
    "lora pissa": {"variant": "pissa", "rank": 2},
    "lora olora": {"variant": "olora", "rank": 2},
    "lokr depthwise": {"targets": ["depthwise", "spatial"], "rank": 2},
    "loha depthwise": {"targets": ["depthwise", "pointwise"], "rank": 2},
    "visual_prompt shallow": {"depth": "shallow", "length": 3},
    "adapter wide": {"size": 32},
    "full moving": {"statistics": "moving"},
    "norm_tuning moving": {"statistics": "moving"},
    "linear_probe_then_full moving": {"statistics": "moving"},
}
VARIANT_KINDS = {
    "lora dora": ("timm_resnet", "hf_vit"),
    "lora pissa": ("timm_resnet", "timm_vit"),
    "lora olora": ("timm_efficientnet",),
    "lokr depthwise": ("timm_efficientnet",),
    "loha depthwise": ("torchvision_mobilenet",),
    "visual_prompt shallow": ("timm_vit", "hf_dinov2"),
    "adapter wide": ("hf_dinov2",),
    "full moving": ("timm_efficientnet", "torchvision_mobilenet", "hf_resnet"),
    "norm_tuning moving": ("timm_resnet", "torchvision_mobilenet", "hf_resnet"),
    "linear_probe_then_full moving": ("timm_resnet", "torchvision_mobilenet"),
}

CONV_NETS = ("timm_resnet", "timm_efficientnet", "timm_convnext", "torchvision_resnet", "torchvision_mobilenet")
CONV_NETS = (*CONV_NETS, "hf_resnet")
TEXTS_ONLY = "reads pictures"
NO_LINEAR = "changes linear layers, and this model has none inside its blocks"
CANNOT = {
    **{(name, kind): TEXTS_ONLY for name in ("prompt_tuning", "p_tuning") for kind in TINY_VISION},
    **{("prefix_tuning", kind): "vision transformer that classifies" for kind in (*CONV_NETS, "hf_convnext")},
    ("prefix_tuning", "hf_swin"): "takes no learned keys and values",
    **{("llama_adapter", kind): "is for language models" for kind in TINY_VISION},
    **{(name, kind): NO_LINEAR for name in ("vera", "adalora") for kind in CONV_NETS},
    **{("visual_prompt", kind): "joins a vision transformer's tokens" for kind in (*CONV_NETS, "hf_convnext")},
    ("visual_prompt", "hf_swin"): "cannot take more tokens",
    ("oft", "hf_convnext"): "gives its linear layers whole maps",
    ("adapter", "hf_dinov2"): "cannot be built with a feed-forward part wider by 8",
    ("adapter", "hf_swin"): "no feed-forward part of one matrix up and one down in every block",
}
CHANGES_AT_ONCE = ("visual_prompt", "prefix_tuning")
STEPS = 4
ALL = [(name, kind) for kind in TINY_VISION for name in registry.names()] + [
    (case, kind) for case, kinds in VARIANT_KINDS.items() for kind in kinds
]
WORKING = [pair for pair in ALL if pair not in CANNOT]


@dataclass(frozen=True)
class Trained:
    """A model after four steps, what it was before, and all that resuming may use of its second step."""

    case: str
    kind: str
    method: Method
    pretrained: Pretrained
    model: nn.Module
    untouched: Tensor
    fresh: Tensor
    start: Mapping[str, Tensor]
    missing: set[str]
    middle: Mapping[str, Any]
    logits: Tensor


@functools.cache
def _read(kind: str, folder: Path) -> Pretrained:
    from tunesmith.models.vision import load_image_classifier

    return load_image_classifier(tiny_vision_source(kind, folder / kind), LABELS, multi_label=False, seed=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures_models")


def fresh_copy(kind: str, folder: Path) -> Pretrained:
    pretrained = _read(kind, folder)
    return replace(pretrained, model=copy.deepcopy(pretrained.model))


def make(case: str) -> Method:
    name = case.split(" ")[0]
    return registry.make({"name": name, **VARIANTS.get(case, SHORT.get(name, {}))})


def prepared(method: Method, pretrained: Pretrained) -> nn.Module:
    torch.manual_seed(11)
    model = method.prepare(pretrained)
    use_counter_dropout(model)
    return model.eval()


@functools.cache
def pictures() -> Tensor:
    return torch.randn(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def answers(model: nn.Module) -> Tensor:
    model.eval()
    with torch.no_grad():
        found = model(pictures())
    logits: Tensor = getattr(found, "logits", found)
    return logits


def train(method: Method, model: nn.Module, optimizer: Any, first: int, last: int) -> set[str]:
    """Steps `first` to `last` of four; names of learned parameters that no step brought a gradient."""
    missing = {n for n, t in method.learned(model).items() if isinstance(t, nn.Parameter)}
    targets = torch.tensor([0, 1, 2, 1])
    for step in range(first, last + 1):
        method.training_mode(model)
        begin(0, step, range(len(targets)))
        found = model(pictures())
        nn.functional.cross_entropy(getattr(found, "logits", found), targets).backward()
        method.after_backward(model, step, STEPS)
        missing -= {n for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        method.after_step(model, step, STEPS)
        optimizer.zero_grad()
    return missing


def optimizer_of(method: Method, model: nn.Module) -> Any:
    weights = [t for t in method.learned(model).values() if isinstance(t, nn.Parameter)]
    return torch.optim.AdamW(weights, lr=3e-3)


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


@pytest.fixture(scope="module", params=WORKING, ids=[" on ".join(pair) for pair in WORKING])
def trained(request: pytest.FixtureRequest, folder: Path) -> Trained:
    case, kind = request.param
    method, pretrained = make(case), fresh_copy(kind, folder)
    untouched = answers(pretrained.model)
    model = prepared(method, pretrained)
    fresh, optimizer = answers(model), optimizer_of(method, model)
    start = copied(tensors_of(model))
    missing = train(method, model, optimizer, 1, 2)
    middle = {
        "learned": copied(method.learned(model)),
        "state": copied(method.state(model)),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "logits": answers(model),
    }
    train(method, model, optimizer, 3, STEPS)
    return Trained(case, kind, method, pretrained, model, untouched, fresh, start, missing, middle, answers(model))


def test_every_learned_tensor_moves_and_every_other_stays(trained: Trained) -> None:
    learned, now = trained.method.learned(trained.model), tensors_of(trained.model)
    assert not trained.missing
    assert {n for n, p in trained.model.named_parameters() if p.requires_grad} <= set(learned)
    still = {n for n in learned if torch.equal(now[n], trained.start[n])}
    # Adding the same number to every key changes no softmax, so a key's bias may stand still; AdaLoRA's budget may set
    # a layer's whole diagonal back to zero, where it started.
    assert not {n for n in still if not n.endswith(("key.bias", "k_proj.bias")) and ".lora_E." not in n}
    assert not {n for n, t in trained.start.items() if n not in learned and not torch.equal(now[n], t)}


def test_a_fresh_method_leaves_the_answers_as_they_were(trained: Trained) -> None:
    if trained.method.name in CHANGES_AT_ONCE:
        assert not torch.allclose(trained.fresh, trained.untouched, atol=1e-4)
    else:  # to float32 rounding: pissa and olora take the weights apart and put them together again
        torch.testing.assert_close(trained.fresh, trained.untouched, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(trained.fresh, trained.logits, atol=1e-3)


def test_the_whole_head_learns(trained: Trained) -> None:
    learned = trained.method.learned(trained.model)
    for head in trained.pretrained.anatomy.head:
        assert any(f".{head}." in f".{name}" for name in learned), head


def test_a_restored_model_answers_alike_and_trains_on_alike(trained: Trained, folder: Path) -> None:
    method, middle = trained.method, trained.middle
    model = prepared(method, fresh_copy(trained.kind, folder))
    with torch.no_grad():
        for name, tensor in method.learned(model).items():
            tensor.copy_(middle["learned"][name])
    method.restore(model, middle["state"])
    optimizer = optimizer_of(method, model)
    optimizer.load_state_dict(middle["optimizer"])
    assert torch.equal(answers(model), middle["logits"])
    assert set(method.state(model)) == set(middle["state"])
    train(method, model, optimizer, 3, STEPS)
    expected = method.learned(trained.model)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in method.learned(model).items())
    assert torch.equal(answers(model), trained.logits)


def test_what_is_saved_is_read_by_its_library_and_answers_alike(trained: Trained, tmp_path: Path) -> None:
    from tunesmith.models.vision_files import read_image_classifier, write_companions

    trained.method.save(trained.model, tmp_path, trained.pretrained)
    write_companions(trained.pretrained, tmp_path)
    torch.manual_seed(99)  # what is drawn for a missing head must not matter
    plain, form = read_image_classifier(tmp_path)
    assert form == trained.pretrained.processor
    # float32; twice the rank (pissa, olora) and kernels with an adapter inside sum in another order
    torch.testing.assert_close(answers(plain), trained.logits, atol=1e-4, rtol=1e-4)


def test_a_merged_copy_answers_alike_and_the_trained_model_is_left_alone(trained: Trained) -> None:
    before = copied(trained.model.state_dict())
    if trained.method.name in CHANGES_AT_ONCE:
        with pytest.raises(ModelError, match="cannot be merged"):
            trained.method.merge(trained.model)
    else:
        merged = trained.method.merge(trained.model)
        torch.testing.assert_close(answers(merged), trained.logits, atol=1e-4, rtol=1e-4)  # float32 sums reordered
        kinds = {type(module).__module__ for module in merged.modules()}
        assert not {name for name in kinds if name.startswith(("peft", "tunesmith.methods", "tunesmith.models"))}
        with torch.no_grad():
            for parameter in merged.parameters():
                parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.model.state_dict().items())
    assert torch.equal(answers(trained.model), trained.logits)


@pytest.mark.parametrize(("case", "kind"), list(CANNOT), ids=[" on ".join(pair) for pair in CANNOT])
def test_a_model_that_cannot_use_a_method_is_refused_with_others_that_work(case: str, kind: str, folder: Path) -> None:
    with pytest.raises(ModelError, match=CANNOT[case, kind]) as caught:
        make(case).prepare(fresh_copy(kind, folder))
    assert "lora" in str(caught.value)
