"""What every method promises on language models: one that stores its weights turned, and one with gated layers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tunesmith.errors import ModelError
from tunesmith.methods.base import Method, registry
from tunesmith.train.randomness import begin
from tunesmith.types import Pretrained

from ..conftest import TINY_LANGUAGE_MODELS
from . import test_methods as texts
from .test_methods import batch_of, copied, prepared

VARIANTS: dict[str, dict[str, Any]] = {
    **texts.VARIANTS,
    "lora plus": {"b_rate": 16.0},
    "prefix_tuning random": {"initialisation": "random"},
    "llama_adapter upper": {"layers": 1, "length": 3},
}
NO_HEAD = "goes on with texts by its own words"
CANNOT = {
    **{(name, kind): NO_HEAD for name in ("head", "linear_probe_then_full") for kind in TINY_LANGUAGE_MODELS},
    **{("visual_prompt", kind): "is for pictures" for kind in TINY_LANGUAGE_MODELS},
    **{(name, "gpt2_lm"): texts.TURNED for name in ("oft", "lokr", "loha")},
    **{(name, "gpt2_lm"): "of the Llama and Mistral families" for name in ("llama_adapter", "llama_adapter upper")},
    ("bitfit", "llama_lm"): "no bias terms",
}
IN_FRONT = ("prompt_tuning", "p_tuning")
"""Methods whose learned tokens have places, and so logits, of their own before the text's."""
STEPS = 4
ALL = [(case, kind) for kind in TINY_LANGUAGE_MODELS for case in (*registry.names(), *VARIANTS)]
WORKING = [pair for pair in ALL if pair not in CANNOT]
"""Every run of the tests looks at Llama; GPT-2 is among the slow tests."""
PARAMS = [
    pytest.param(pair, id=" on ".join(pair), marks=[pytest.mark.slow] if pair[1] == "gpt2_lm" else [])
    for pair in WORKING
]

Load = Callable[..., Pretrained]


@dataclass(frozen=True)
class Trained:
    """A language model after four steps, what it was before, and all that resuming may use of its second step."""

    kind: str
    method: Method
    pretrained: Pretrained
    model: nn.Module
    inputs: Mapping[str, Tensor]
    untouched: Tensor
    fresh: Tensor
    start: Mapping[str, Tensor]
    missing: set[str]
    middle: Mapping[str, Any]
    logits: Tensor


def make(case: str) -> Method:
    return registry.make({"name": case.split(" ")[0], **VARIANTS.get(case, {})})


def logits_of(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Logits at the texts' own places [texts, tokens, vocabulary]."""
    logits: Tensor = model(**inputs).logits
    return logits[:, -inputs["input_ids"].shape[1] :]


def answers(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Logits at every token that is no padding [tokens in all, vocabulary]."""
    model.eval()
    with torch.no_grad():
        return logits_of(model, inputs)[inputs["attention_mask"] == 1]


def loss_of(logits: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Mean cross-entropy of each next token."""
    targets = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)[:, 1:]
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten())


def generated(model: Any, inputs: Mapping[str, Tensor]) -> list[list[int]]:
    """Five greedy tokens after each of the first two texts, asked one at a time."""
    model.eval()
    found = []
    for ids, mask in zip(inputs["input_ids"][:2], inputs["attention_mask"][:2], strict=True):
        own = {"input_ids": ids[mask == 1][None], "attention_mask": mask[mask == 1][None]}
        whole = model.generate(**own, max_new_tokens=5, do_sample=False, eos_token_id=None, pad_token_id=0)
        found.append(whole[0, own["input_ids"].shape[1] :].tolist())
    return found


def optimizer_of(method: Method, model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(method.learned(model).values(), lr=1e-2)


def train(
    method: Method, model: nn.Module, inputs: Mapping[str, Tensor], optimizer: Any, first: int, last: int
) -> set[str]:
    """Steps `first` to `last` of four; names of learned parameters that no step brought a gradient."""
    missing = set(method.learned(model))
    for step in range(first, last + 1):
        method.training_mode(model)
        begin(0, step, range(len(inputs["input_ids"])))
        loss_of(logits_of(model, inputs), inputs).backward()
        method.after_backward(model, step, STEPS)
        missing -= {n for n, p in model.named_parameters() if p.grad is not None}
        optimizer.step()
        method.after_step(model, step, STEPS)
        optimizer.zero_grad()
    return missing


@pytest.fixture(scope="module", params=PARAMS)
def trained(request: pytest.FixtureRequest, tiny: Load) -> Trained:
    case, kind = request.param
    method, pretrained = make(case), tiny(kind)
    inputs = batch_of(pretrained)
    untouched = answers(pretrained.model, inputs)
    model = prepared(method, pretrained)
    fresh, optimizer = answers(model, inputs), optimizer_of(method, model)
    start = copied(dict(model.named_parameters()) | dict(model.named_buffers()))
    missing = train(method, model, inputs, optimizer, 1, 2)
    middle = {
        "learned": copied(method.learned(model)),
        "state": copied(method.state(model)),
        "optimizer": copy.deepcopy(optimizer.state_dict()),
        "logits": answers(model, inputs),
    }
    train(method, model, inputs, optimizer, 3, STEPS)
    after = answers(model, inputs)
    return Trained(kind, method, pretrained, model, inputs, untouched, fresh, start, missing, middle, after)


def test_every_learned_tensor_moves_and_every_other_stays(trained: Trained) -> None:
    learned = trained.method.learned(trained.model)
    now = dict(trained.model.named_parameters()) | dict(trained.model.named_buffers())
    assert not trained.missing
    assert set(learned) == {n for n, p in trained.model.named_parameters() if p.requires_grad}
    assert not {n for n in learned if torch.equal(now[n], trained.start[n])}
    assert not {n for n, t in trained.start.items() if n not in learned and not torch.equal(now[n], t)}


def test_a_fresh_method_leaves_the_answers_as_they_were(trained: Trained) -> None:
    if trained.method.name in texts.CHANGES_AT_ONCE:
        assert not torch.allclose(trained.fresh, trained.untouched, atol=1e-3)
    else:  # to float32 rounding: pissa and olora take the weights apart and put them together again
        torch.testing.assert_close(trained.fresh, trained.untouched, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(trained.fresh, trained.logits, atol=1e-3)


def test_learned_tokens_have_places_in_front_and_nothing_else_adds_any(trained: Trained) -> None:
    added = trained.method.added_tokens() if trained.method.name in IN_FRONT else 0
    with torch.no_grad():
        logits = trained.model(**trained.inputs).logits
    assert logits.shape[1] == trained.inputs["input_ids"].shape[1] + added


def test_a_restored_model_answers_alike_and_trains_on_alike(trained: Trained, tiny: Load) -> None:
    method, middle, inputs = trained.method, trained.middle, trained.inputs
    model = prepared(method, tiny(trained.kind))
    with torch.no_grad():
        for name, tensor in method.learned(model).items():
            tensor.copy_(middle["learned"][name])
    method.restore(model, middle["state"])
    optimizer = optimizer_of(method, model)
    optimizer.load_state_dict(middle["optimizer"])
    assert torch.equal(answers(model, inputs), middle["logits"])
    assert set(method.state(model)) == set(middle["state"])
    train(method, model, inputs, optimizer, 3, STEPS)
    expected = method.learned(trained.model)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in method.learned(model).items())
    assert torch.equal(answers(model, inputs), trained.logits)


def test_what_is_saved_loads_in_a_plain_program_which_answers_and_generates_alike(
    trained: Trained, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    trained.method.save(trained.model, tmp_path, trained.pretrained)
    if (tmp_path / "adapter_config.json").exists():
        base = AutoModelForCausalLM.from_pretrained(trained.pretrained.source.path)
        plain = PeftModel.from_pretrained(base, tmp_path)
    else:
        plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    # float32; other attention kernels and (pissa, olora) twice the rank in another order of sums
    torch.testing.assert_close(answers(plain, trained.inputs), trained.logits, atol=1e-4, rtol=1e-4)
    assert generated(plain, trained.inputs) == generated(trained.model, trained.inputs)


def test_an_adapters_file_holds_nothing_of_the_model(trained: Trained, tiny: Load, tmp_path: Path) -> None:
    from safetensors import safe_open

    trained.method.save(trained.model, tmp_path, trained.pretrained)
    if not (tmp_path / "adapter_config.json").exists():
        return
    config = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["task_type"] == "CAUSAL_LM"
    assert not config.get("modules_to_save")
    own = {name for name, _ in tiny(trained.kind).model.named_parameters()}
    with safe_open(tmp_path / "adapter_model.safetensors", framework="pt") as file:
        assert not {name for name in file.keys() if name.split("base_model.model.")[-1] in own}  # noqa: SIM118


def test_the_loss_at_labelled_places_is_that_of_the_whole_logits_with_its_gradient(trained: Trained) -> None:
    from tunesmith.models.chunked_head import label_losses

    inputs, learned = trained.inputs, trained.method.learned(trained.model)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    total, count = label_losses(trained.model.eval(), inputs, labels, chunk=16)
    plain = loss_of(logits_of(trained.model, inputs), inputs) * count
    torch.testing.assert_close(total, plain, atol=1e-4, rtol=1e-5)  # a sum of 30 losses in float32
    pairs = (torch.autograd.grad(loss, list(learned.values())) for loss in (total, plain))
    for name, found, wanted in zip(learned, *pairs, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4, msg=name)


def test_generating_a_token_at_a_time_gives_what_reading_the_whole_text_again_gives(trained: Trained) -> None:
    ids = trained.inputs["input_ids"][:1, :3]
    expected = ids
    with torch.no_grad():
        for _ in range(5):
            logits = trained.model(input_ids=expected, attention_mask=torch.ones_like(expected)).logits
            expected = torch.cat([expected, logits[:, -1:].argmax(dim=-1)], dim=1)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert generated(trained.model, given) == expected[:, 3:].tolist()


def test_switched_off_it_generates_what_the_untouched_model_does(trained: Trained, tiny: Load) -> None:
    method, model = trained.method, trained.model
    start = {name: trained.start[name] for name in method.learned(model)}
    tuned, untouched = generated(model, trained.inputs), generated(tiny(trained.kind).model, trained.inputs)
    with method.switched_off(model, start):
        assert generated(model, trained.inputs) == untouched
        assert torch.equal(answers(model, trained.inputs), trained.untouched)
    assert generated(model, trained.inputs) == tuned
    assert torch.equal(answers(model, trained.inputs), trained.logits)


def test_a_merged_copy_answers_alike_and_the_trained_model_is_left_alone(trained: Trained) -> None:
    before = copied(trained.model.state_dict())
    if trained.method.name == "llama_adapter":
        with pytest.raises(ModelError, match="cannot be merged"):
            trained.method.merge(trained.model)
    else:
        merged = trained.method.merge(trained.model)
        # float32 sums reordered
        torch.testing.assert_close(answers(merged, trained.inputs), trained.logits, atol=1e-4, rtol=1e-4)
        assert generated(merged, trained.inputs) == generated(trained.model, trained.inputs)
        with torch.no_grad():
            for parameter in merged.parameters():
                parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trained.model.state_dict().items())
    assert torch.equal(answers(trained.model, trained.inputs), trained.logits)


def test_padding_behind_changes_no_answer(trained: Trained) -> None:
    lengths = trained.inputs["attention_mask"].sum(dim=1).tolist()
    rows = [{k: v[i : i + 1, :n] for k, v in trained.inputs.items()} for i, n in enumerate(lengths)]
    alone = torch.cat([answers(trained.model, row) for row in rows])
    torch.testing.assert_close(alone, trained.logits, atol=1e-4, rtol=1e-4)  # float32 sums of other lengths


@pytest.mark.parametrize(("case", "kind"), list(CANNOT), ids=[" on ".join(pair) for pair in CANNOT])
def test_a_model_that_cannot_use_a_method_is_refused_with_others_that_work(case: str, kind: str, tiny: Load) -> None:
    with pytest.raises(ModelError, match=CANNOT[case, kind]) as caught:
        make(case).prepare(tiny(kind))
    assert "lora" in str(caught.value)
