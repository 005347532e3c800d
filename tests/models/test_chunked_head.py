"""The loss with the head applied by chunks equals plain cross-entropy on the whole logits, in value and gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from tunesmith.errors import ModelError
from tunesmith.models import chunked_head, fused_loss
from tunesmith.models.chunked_head import label_answers, label_losses, sequence_logps

VOCABULARY, TOKENS = 40, 11
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXACT = {"atol": 1e-6, "rtol": 1e-6}
"""float32 sums taken in another order."""


def llama(*, tied: bool = True, seed: int = 0, **more: Any) -> Any:
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=tied, **more)).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 0.3)
    return model


def with_bias(model: Any) -> Any:
    plain = model.lm_head
    model.lm_head = nn.Linear(plain.in_features, plain.out_features)
    model.lm_head.bias.data.normal_()
    return model


def gpt2() -> Any:
    torch.manual_seed(1)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=64)
    return GPT2LMHeadModel(config).eval()


def lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False)
    return get_peft_model(model, config).eval()


def prompt_tuning(model: Any) -> Any:
    from peft import PromptTuningConfig, get_peft_model

    torch.manual_seed(3)
    return get_peft_model(model, PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM")).eval()


def prefix_tuning(model: Any) -> Any:
    from peft import PrefixTuningConfig, get_peft_model

    torch.manual_seed(4)
    return get_peft_model(model, PrefixTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM")).eval()


MODELS = {
    "tied": lambda: llama(),
    "untied": lambda: llama(tied=False),
    "bias": lambda: with_bias(llama(tied=False)),
    "gpt2": gpt2,
    "lora": lambda: lora(llama()),
    "prompt_tuning": lambda: prompt_tuning(llama()),
    "prefix_tuning": lambda: prefix_tuning(llama()),
}


def batch(rows: int = 3, seed: int = 0) -> tuple[dict[str, Tensor], Tensor]:
    """Right-padded rows of ids; prompts and padding carry no label."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (rows, TOKENS), generator=draw)
    sizes = torch.arange(rows) % 4 + TOKENS - 3
    mask = (torch.arange(TOKENS) < sizes.clamp(max=TOKENS)[:, None]).long()
    labels = ids.where(mask.bool() & (torch.arange(TOKENS) >= 4), torch.tensor(-100))
    labels[0, 6] = -100  # a hole, as between two answers
    return {"input_ids": ids, "attention_mask": mask}, labels


def plain_loss(model: Any, inputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    logits = model(**inputs).logits[:, -labels.shape[1] :]
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("chunk", [1, 7, 512])
def test_loss_and_gradient_equal_the_plain_heads(kind: str, chunk: int) -> None:
    model = MODELS[kind]()
    inputs, labels = batch()
    loss, count = label_losses(model, inputs, labels, chunk=chunk)
    expected = plain_loss(model, inputs, labels)
    assert count == int((labels[:, 1:] != -100).sum())
    torch.testing.assert_close(loss, expected, **EXACT)
    found, wanted = gradients(model, loss / count), gradients(model, expected / count)
    assert found.keys() == wanted.keys()
    assert found
    torch.testing.assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("kind", MODELS)
def test_in_float64_nothing_but_rounding_differs(kind: str) -> None:
    model = MODELS[kind]().double()
    inputs, labels = batch()
    loss, _ = label_losses(model, inputs, labels, chunk=3)
    expected = plain_loss(model, inputs, labels)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(gradients(model, loss), gradients(model, expected), atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("kind", MODELS)
def test_the_whole_logits_are_never_made(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[kind]()
    inputs, labels = batch()
    label_losses(model, inputs, labels)  # the one trial forward
    seen: list[int] = []
    plain = nn.functional.linear

    def linear(given: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if weight.shape[0] == VOCABULARY:
            seen.append(given.shape[0])
        return plain(given, weight, bias)

    monkeypatch.setattr(nn.functional, "linear", linear)
    label_losses(model, inputs, labels, chunk=4)
    assert max(seen) == 4
    assert sum(seen) == int((labels[:, 1:] != -100).sum())


@pytest.mark.parametrize("tied", [True, False])
def test_a_frozen_head_gets_no_gradient_and_passes_it_on(tied: bool) -> None:
    model = llama(tied=tied)
    model.lm_head.requires_grad_(False)
    inputs, labels = batch()
    found = gradients(model, label_losses(model, inputs, labels, chunk=3)[0])
    wanted = gradients(model, plain_loss(model, inputs, labels))
    assert "lm_head.weight" not in found
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-5)


def test_where_only_the_head_learns_only_it_gets_a_gradient() -> None:
    model = llama(tied=False).requires_grad_(False)
    model.lm_head.requires_grad_(True)
    inputs, labels = batch()
    found = gradients(model, label_losses(model, inputs, labels, chunk=3)[0])
    assert set(found) == {"lm_head.weight"}
    torch.testing.assert_close(found, gradients(model, plain_loss(model, inputs, labels)), atol=2e-6, rtol=1e-5)


def test_micro_batches_add_up_to_the_batch() -> None:
    model = llama()
    inputs, labels = batch(rows=5)
    whole, count = label_losses(model, inputs, labels, chunk=4)
    wanted = gradients(model, whole)
    model.zero_grad()
    counts = 0
    for rows in (slice(0, 1), slice(1, 4), slice(4, 5)):
        loss, found = label_losses(model, {n: t[rows] for n, t in inputs.items()}, labels[rows], chunk=4)
        loss.backward()
        counts += found
    assert counts == count
    found_gradients = {n: p.grad for n, p in model.named_parameters()}
    torch.testing.assert_close(found_gradients, wanted, atol=2e-6, rtol=1e-5)


def test_a_batch_without_labels_gives_zero_and_a_gradient_of_zero() -> None:
    model = llama()
    inputs, labels = batch()
    loss, count = label_losses(model, inputs, torch.full_like(labels, -100))
    assert (loss.item(), count) == (0.0, 0)
    assert all(g.abs().sum() == 0 for g in gradients(model, loss).values())
    rows, losses, right = label_answers(model, inputs, torch.full_like(labels, -100))
    assert len(rows) == len(losses) == len(right) == 0
    assert sequence_logps(model, inputs, torch.full_like(labels, -100)).tolist() == [0.0, 0.0, 0.0]


def test_a_label_at_the_first_place_has_nothing_before_it_and_does_not_count() -> None:
    model = llama()
    inputs, labels = batch()
    one = torch.full_like(labels, -100)
    one[1, 0], one[1, 1] = 5, 7
    loss, count = label_losses(model, inputs, one)
    expected = -model(**inputs).logits[1, 0].log_softmax(-1)[7]
    assert count == 1
    torch.testing.assert_close(loss, expected, **EXACT)


@pytest.mark.parametrize("kind", ["tied", "prompt_tuning", "prefix_tuning"])
def test_answers_tell_row_loss_and_the_best_guess(kind: str) -> None:
    model = MODELS[kind]()
    inputs, labels = batch()
    with torch.no_grad():
        logits = model(**inputs).logits[:, -TOKENS:]
    guess = logits.argmax(-1)
    labels[2, 5] = guess[2, 4]  # one that is right
    rows, losses, right = label_answers(model, inputs, labels, chunk=4)
    places = [(r, t) for r in range(3) for t in range(1, TOKENS) if labels[r, t] != -100]
    assert rows.tolist() == [r for r, _ in places]
    assert right.tolist() == [bool(guess[r, t - 1] == labels[r, t]) for r, t in places]
    assert right.any()
    expected = torch.stack([-logits[r, t - 1].log_softmax(-1)[labels[r, t]] for r, t in places])
    torch.testing.assert_close(losses, expected, **EXACT)
    assert not losses.requires_grad


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("learning", [True, False])
def test_log_probabilities_of_rows_can_be_weighed_each_by_itself(kind: str, learning: bool) -> None:
    model = MODELS[kind]()
    if not learning:
        model.get_output_embeddings().requires_grad_(False)
    inputs, labels = batch()
    weights = torch.tensor([0.5, -2.0, 3.0])
    found = sequence_logps(model, inputs, labels, chunk=4)
    logits = model(**inputs).logits[:, -TOKENS:].log_softmax(-1)[:, :-1]
    kept = labels[:, 1:].clamp(min=0)[..., None]
    expected = (logits.gather(2, kept)[..., 0] * (labels[:, 1:] != -100)).sum(1)
    torch.testing.assert_close(found, expected, atol=5e-6, rtol=1e-6)
    torch.testing.assert_close(
        gradients(model, (found * weights).sum()), gradients(model, (expected * weights).sum()), atol=5e-6, rtol=1e-5
    )


@pytest.mark.parametrize("summed", [True, False])
@pytest.mark.parametrize("learning", [(True, True), (True, False), (False, True)])
def test_the_gradient_is_the_derivative(summed: bool, learning: tuple[bool, bool]) -> None:
    draw = torch.Generator().manual_seed(0)
    layer = nn.Linear(3, 6).double()
    layer.requires_grad_(learning[1])
    hidden = torch.randn(5, 3, generator=draw, dtype=torch.float64).requires_grad_(learning[0])
    labels = torch.randint(0, 6, (5,), generator=draw)

    def loss(states: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return fused_loss.linear_cross_entropy(states, layer, labels, chunk=2, products=torch.float64, summed=summed)

    assert torch.autograd.gradcheck(loss, (hidden, layer.weight, layer.bias))


def test_under_autocast_products_are_bfloat16_and_the_softmax_float32() -> None:
    model = llama()
    inputs, labels = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = label_losses(model, inputs, labels, chunk=4)
        expected = plain_loss(model, inputs, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-6)  # the same bfloat16 logits
    found, wanted = gradients(model, loss), gradients(model, expected)
    for name, gradient in found.items():  # bfloat16 keeps 8 bits, and plain autocast rounds the weight's gradient too
        torch.testing.assert_close(gradient, wanted[name], atol=0.02 * float(wanted[name].abs().max()), rtol=0.05)


def test_packed_rows_with_a_mask_of_their_own_and_positions_work() -> None:
    model = llama()
    inputs, labels = batch(rows=2)
    ids, width = inputs["input_ids"], TOKENS
    segments = torch.tensor([[1] * width + [2] * width])
    mask = (segments[:, None, :, None] == segments[:, None, None, :]) & torch.ones(2 * width, 2 * width).tril().bool()
    packed = {"input_ids": ids.reshape(1, -1), "attention_mask": mask,
              "position_ids": torch.arange(width).repeat(2)[None]}  # fmt: skip
    apart = label_losses(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, labels)
    together = label_losses(model, packed, labels.reshape(1, -1))
    assert apart[1] == together[1]
    torch.testing.assert_close(together[0], apart[0], atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "kind", "more"),
    [
        (Gemma2Config, Gemma2ForCausalLM, {"head_dim": 4}),
        (CohereConfig, CohereForCausalLM, {}),
        (GraniteConfig, GraniteForCausalLM, {"logits_scaling": 3.0}),
    ],
)
def test_models_that_do_more_after_the_head_are_found_out(config: Any, kind: Any, more: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = kind(config(**SIZES, **more)).eval()
    with torch.no_grad():
        model.lm_head.weight.normal_(0, 2)  # else capping would hardly show
    inputs, labels = batch()
    loss, _ = label_losses(model, inputs, labels, chunk=4)
    expected = plain_loss(model, inputs, labels)
    torch.testing.assert_close(loss, expected, **EXACT)
    torch.testing.assert_close(gradients(model, loss), gradients(model, expected), atol=2e-6, rtol=1e-5)
    row_sums = torch.zeros(3).index_add(0, *label_answers(model, inputs, labels)[:2])
    torch.testing.assert_close(-sequence_logps(model, inputs, labels), row_sums, atol=1e-5, rtol=1e-5)


def test_an_adapter_on_the_head_itself_is_not_passed_by() -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(2)
    config = LoraConfig(r=4, target_modules=["lm_head"], task_type="CAUSAL_LM", init_lora_weights=False)
    model: Any = get_peft_model(llama(tied=False), config).eval()
    inputs, labels = batch()
    loss, _ = label_losses(model, inputs, labels, chunk=4)
    expected = plain_loss(model, inputs, labels)
    torch.testing.assert_close(loss, expected, **EXACT)
    torch.testing.assert_close(gradients(model, loss), gradients(model, expected), atol=2e-6, rtol=1e-5)


def test_the_model_is_tried_once_and_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = llama().train()
    inputs, labels = batch()
    tries: list[int] = []
    plain = chunked_head._try_out
    monkeypatch.setattr(chunked_head, "_try_out", lambda *given: tries.append(1) or plain(*given))
    random = torch.get_rng_state()
    for _ in range(3):
        label_losses(model, inputs, labels)
    assert tries == [1]
    assert model.training
    assert "forward" not in vars(model.lm_head)
    assert not model.lm_head._forward_hooks
    assert torch.equal(torch.get_rng_state(), random)


def test_a_failing_forward_leaves_the_head_in_its_place() -> None:
    model = llama()
    inputs, labels = batch()
    label_losses(model, inputs, labels)
    with pytest.raises(IndexError):
        label_losses(model, {**inputs, "input_ids": inputs["input_ids"] + VOCABULARY}, labels)
    assert "forward" not in vars(model.lm_head)
    assert model(**inputs).logits.shape[-1] == VOCABULARY


def test_a_classifier_is_refused() -> None:
    sizes = {name: SIZES[name] for name in ("vocab_size", "hidden_size", "intermediate_size")}
    model = BertForSequenceClassification(BertConfig(**sizes, num_hidden_layers=1, num_attention_heads=4))
    inputs, labels = batch()
    with pytest.raises(ModelError, match="no output layer over a vocabulary"):
        label_losses(model, inputs, labels)
