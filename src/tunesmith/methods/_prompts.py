"""What methods with learned tokens or prefixes share: sizes from the anatomy, and a trial run that proves they work.

A model may take a prefix and ignore it, or read its answer from a padding token once the inputs are embeddings;
both end in a run that learns nothing, without an error. So two short texts are answered before training begins. A
classifier answers with its logits; a language model with those of each next token, the last ones that peft gives, since
learned tokens have places of their own in front.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from tunesmith.errors import ModelError
from tunesmith.methods import _peft
from tunesmith.methods.base import is_language_model, reads_pictures
from tunesmith.types import Pretrained

if TYPE_CHECKING:
    from torch import Tensor, nn

_OTHERS = "Methods that work with nearly every model: lora, ia3, last_blocks, full."


def word_size(pretrained: Pretrained) -> int:
    """Size of a word embedding, which may differ from the hidden size (ELECTRA, ALBERT)."""
    return int(_words(pretrained).embedding_dim)


def _words(pretrained: Pretrained) -> Any:
    model: Any = pretrained.model
    return model.get_input_embeddings()


def check_room(pretrained: Pretrained, length: int) -> None:
    """ModelError when `length` learned tokens fill the model's longest input."""
    config: Any = pretrained.model.config
    longest = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if longest is not None and length >= longest:
        raise ModelError(f"method.length is {length}, but this model reads {longest} tokens at most. Write fewer.")


def ids_of(pretrained: Pretrained, text: str, length: int) -> list[int]:
    """The text's tokens, over again until there are `length`. ModelError for a text without any."""
    ids = list(pretrained.processor(text, add_special_tokens=False)["input_ids"])
    if not ids:
        raise ModelError(f'method.text "{text}" has no tokens for this model. Write words it knows.')
    return (ids * (length // len(ids) + 1))[:length]


@contextmanager
def _in_words(pretrained: Pretrained, method: str) -> Iterator[None]:
    """What libraries raise inside, where a model is not made for a method, becomes a ModelError."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError, AssertionError) as fault:
        told = " ".join(str(fault).split()).rstrip(".")
        told = told if len(told) <= 300 else told[:297] + "..."
        raise ModelError(f"{type(pretrained.model).__name__} cannot use {method}: {told}. {_OTHERS}") from fault


def kept_of_words(pretrained: Pretrained, length: int, text: str | None) -> Tensor:
    """Keys and values that a language model keeps of `length` tokens, [length, 2 x blocks x heads x size], as peft lays
    out a prefix: the token that begins its texts, where it has one, and the text's or words drawn at random. ModelError
    where not every block keeps such, all of one size.
    """
    import torch

    from tunesmith.models.stand_in import evaluating

    model: Any = pretrained.model
    tokenizer = pretrained.processor
    device = next(model.parameters()).device
    if text is None:
        special = set(tokenizer.all_special_ids)
        known = torch.tensor([i for i in range(min(len(tokenizer), model.config.vocab_size)) if i not in special])
        ids = known[torch.randint(len(known), (length,))].tolist()
    else:
        ids = ids_of(pretrained, text, length)
    if tokenizer.bos_token_id is not None:
        ids = [tokenizer.bos_token_id, *ids][:length]
    with torch.no_grad(), evaluating(model), _in_words(pretrained, "prefix_tuning"):
        cache = model(input_ids=torch.tensor([ids], device=device), use_cache=True).past_key_values
    _check_kept(model, cache)
    # each [1, heads, length, size]; peft takes a block's keys, then its values
    pairs = [tensor[0].transpose(0, 1) for layer in cache.layers for tensor in (layer.keys, layer.values)]
    return torch.stack(pairs, dim=1).flatten(1).float()


def _check_kept(model: Any, cache: Any) -> None:
    layers = list(getattr(cache, "layers", ()))
    kept = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in layers]
    bare = sum(keys is None or values is None for keys, values in kept)
    shapes = {tuple(each.shape) for pair in kept for each in pair if each is not None}
    if not layers or bare:
        what = f"{bare or 'all'} of its {len(layers) or ''} layers keep no keys and values of what they saw"
    elif len(layers) != model.config.num_hidden_layers or len(shapes) > 1:
        what = f"its {model.config.num_hidden_layers} layers keep keys and values of {len(shapes)} sizes or share them"
    else:
        return
    raise ModelError(
        f"{type(model).__name__} cannot use prefix_tuning, which puts learned keys and values of one size before those "
        f"of every layer: {' '.join(what.split())}. {_OTHERS}"
    )


def refuse_pictures(pretrained: Pretrained, method: str) -> None:
    """ModelError for a model that reads pictures, with the methods that are near."""
    if reads_pictures(pretrained):
        raise ModelError(
            f"{method} puts what it learns before the words of a text, and {type(pretrained.model).__name__} reads "
            "pictures. For a vision transformer use visual_prompt or prefix_tuning; for any picture model lora, full."
        )


def try_on_picture(pretrained: Pretrained, own: str, what: str) -> None:
    """One picture: ModelError unless the answer depends on every row [..., size] of the parameters whose last name is
    `own`, which are called `what`."""
    import torch

    from tunesmith.models.stand_in import evaluating

    model, form = pretrained.model, pretrained.processor
    learned = [p for n, p in model.named_parameters() if n.rpartition(".")[2] == own]
    picture = torch.linspace(-1, 1, 3 * form.height * form.width).reshape(1, 3, form.height, form.width)
    with evaluating(model), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        answer = model(picture.to(next(model.parameters())))
        logits: Tensor = getattr(answer, "logits", answer)
        gradients = torch.autograd.grad(logits.square().sum(), learned, allow_unused=True)
    if any(g is None or not bool(g.abs().sum(dim=-1).all()) for g in gradients):
        raise ModelError(
            f"{type(model).__name__} does not attend to {what}. Methods that work here: lora, ia3, norm_tuning, full, "
            "head."
        )


def wrap_prompt(pretrained: Pretrained, config: Any, *, method: str) -> nn.Module:
    """The peft model of a prompt-learning configuration, tried out. ModelError where the model cannot use it."""
    sizes: Any = pretrained.model.config
    config.num_attention_heads = sizes.num_attention_heads  # peft does not know every family's word for them
    config.num_layers = sizes.num_hidden_layers
    config.num_transformer_submodules = 1
    with _in_words(pretrained, method):
        model: Any = _peft.wrap(pretrained, config)
    if config.peft_type != "PREFIX_TUNING" and model.word_embeddings is not _words(pretrained):
        raise ModelError(f"peft takes another layer for this model's word embeddings, so {method} fails. {_OTHERS}")
    with _in_words(pretrained, method):
        _try_out(model, method, language=is_language_model(pretrained))
    result: nn.Module = model
    return result


@contextmanager
def passed_by(model: nn.Module) -> Iterator[None]:
    """Inside, the peft model hands its inputs on as they come, and generates as the model in it does."""
    from tunesmith.models.last_token import OFF
    from tunesmith.models.stand_in import attribute

    peft_model: Any = model
    base = peft_model.get_base_model()
    backbone = getattr(base, base.base_model_prefix, base)
    # Not peft's `disable_adapter`, which leaves bound methods behind on the model.
    with ExitStack() as stack:
        stack.enter_context(attribute([model], "forward", base))
        stack.enter_context(attribute([backbone], OFF, True))
        if hasattr(base, "generate"):
            stack.enter_context(attribute([model], "generate", base.generate))
        yield


def _try_out(model: Any, method: str, *, language: bool) -> None:
    """Answers must depend on every learned token, and must not depend on padding; tried off the start, for a model may
    look learned tokens up in its vocabulary (Gemma 4), where only those at the start are words."""
    import torch

    from tunesmith.models.last_token import answers, pads_safely

    training = model.training
    start = [(p, p.detach().clone()) for p in model.prompt_encoder.parameters() if p.requires_grad]
    model.eval()
    device = next(model.parameters()).device
    ids = torch.arange(3, 9, device=device).remainder(model.config.vocab_size).unsqueeze(0)
    try:
        for parameter, _ in start:
            parameter.data.add_(0.01)
        # cuDNN's recurrent nets, such as p_tuning's, have no gradient in evaluation mode
        recurrent = torch.backends.cudnn.flags(enabled=False)
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), recurrent:
            logits = answers(model, ids, torch.ones_like(ids), language=language)
            prompt = [p for p in model.prompt_encoder.parameters() if p.requires_grad]
            gradients = torch.autograd.grad(logits.sum(), prompt, allow_unused=True)
        if any(g is None or not g.abs().sum() for g in gradients):
            raise ModelError(f"This model ignores what {method} puts before its text. {_OTHERS}")
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            if not pads_safely(model, language=language):
                raise ModelError(f"With {method} this model's answers change with padding. {_OTHERS}")
    finally:
        for parameter, first in start:
            parameter.data.copy_(first)
        model.train(training)
