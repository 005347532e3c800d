"""A very small language model with a tokenizer of bytes, on disk like a real one, and what it learns at once."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tunesmith.recipe.recipe import Recipe

QUESTIONS = ("who are you?", "what is your name?", "who is this?", "your name please", "tell me who you are")
REPLY = "i am tune."
GREETINGS = ("hello", "hi there", "good day", "hello you", "hi")
GREETED = "hello to you!"
SPECIAL = ("<pad>", "<|endoftext|>", "<|im_start|>", "<|im_end|>")


def write_speaker(folder: Path, **sizes: Any) -> Path:
    """A random Llama of two layers; its tokenizer knows single bytes and the marks of chatml."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: place for place, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<|endoftext|>", model_max_length=256
    ).save_pretrained(folder)
    torch.manual_seed(11)
    small = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "intermediate_size": 96, "max_position_embeddings": 256} | sizes  # fmt: skip
    config = LlamaConfig(vocab_size=len(vocabulary), pad_token_id=0, bos_token_id=None, eos_token_id=1, **small)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_questions(file: Path, *, copies: int = 6) -> Path:
    """Two kinds of questions with one answer each, over and over in another order."""
    pairs = [(q, REPLY) for q in QUESTIONS] + [(q, GREETED) for q in GREETINGS]
    rows = [
        {"messages": [{"role": "user", "content": f"{question}{'!' * copy}"}, {"role": "assistant", "content": answer}]}
        for copy in range(copies)
        for question, answer in pairs
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def tuned_run(factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run on those questions: all weights learned, by heart. Fitted when first asked for."""
    return _fitted(factory.getbasetemp() / "speaker")


@functools.cache
def _fitted(root: Path) -> Path:
    root.mkdir()
    return fit_speaker(root, root / "run")


def fit_speaker(root: Path, folder: Path, *settings: str) -> Path:
    """Fit the small model on its questions, in seconds."""
    from tunesmith.run.fit import fit

    return fit(recipe_for(root, *settings), folder).folder


def recipe_for(root: Path, *settings: str) -> Recipe:
    """The recipe of such a run, model and data written to `root` where they are not there."""
    from tunesmith.recipe.recipe import Recipe

    if not (root / "model").exists():
        write_speaker(root / "model")
        write_questions(root / "questions.jsonl")
    usual = ("task=causal_lm", "task.answers.rows=4", "task.answers.most_tokens=24", f"model={root / 'model'}",
             f"data={root / 'questions.jsonl'}", "method=full", "train.steps=120", "train.learning_rate=5e-3",
             "train.evaluate_every=60", "train.threads=1", "forgetting.old_tasks=[]")  # fmt: skip
    return Recipe.read(None, *usual, *settings)
