"""A tiny Llama with a byte tokenizer and a chat template, and people's preferences that it can learn."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tunesmith.chats import Chat
from tunesmith.types import Example

ASKED = ("what is red", "who sings", "where is the sea", "when does it end", "how far is home", "why so late")
POLITE, RUDE = ("please ", "kindly ", "gladly "), ("bah ", "pff ", "meh ")


def write_talker(folder: Path, seed: int = 0) -> Path:
    """A folder as `transformers` writes it: two blocks, 256 bytes and four special tokens, chatml."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = {word: number for number, word in enumerate([*special, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=known, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|pad|>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(known), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256, pad_token_id=0,
                         bos_token_id=1, eos_token_id=2, tie_word_embeddings=True)  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.15)
    model.save_pretrained(folder)
    return folder


def pairs(count: int, seed: int = 0) -> list[Example]:
    """Prompts with a polite answer that is chosen and a rude one that is not, no two alike."""
    return [
        Example({"chat": Chat(({"role": "user", "content": row["prompt"]},)).to_json(), "chosen": row["chosen"],
                 "rejected": row["rejected"]}, file="pairs.jsonl", line=number + 1)
        for number, row in enumerate(rows(count, seed))
    ]  # fmt: skip


def judged(count: int, seed: int = 0) -> list[Example]:
    """Single answers, every second one liked."""
    found = []
    for number, row in enumerate(rows(count, seed)):
        liked = number % 2 == 0
        inputs = {"chat": Chat(({"role": "user", "content": row["prompt"]},)).to_json(),
                  "answer": row["chosen" if liked else "rejected"], "liked": str(liked).lower()}  # fmt: skip
        found.append(Example(inputs, file="judged.jsonl", line=number + 1))
    return found


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    found = []
    for number in range(count):
        end = " ".join(draw.choices(["it", "is", "so", "here", "now"], k=draw.randint(1, 5)))
        found.append({"prompt": f"{draw.choice(ASKED)} {number}", "chosen": draw.choice(POLITE) + end,
                      "rejected": draw.choice(RUDE) + end})  # fmt: skip
    return found


def write_pairs(path: Path, count: int = 60, seed: int = 0) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(count, seed)), encoding="utf-8")
    return path
