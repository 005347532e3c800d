"""A tiny chat model on disk: random weights, bytes as words, ChatML as its template."""

from __future__ import annotations

import json
import random
from pathlib import Path

from tests.chat_tokenizers import gpt2_like

ANSWERS = {"colour": "It is blue.", "name": "I am Tuna.", "place": "In the sea."}
ASKED = ("What {} is it", "Tell me the {}", "Which {}, please", "The {}", "Say {} now")


def write_tiny_language_model(folder: Path, kind: str = "llama", *, width: int = 32) -> Path:
    """Two blocks, 256 places."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    tokenizer = gpt2_like(markers=True)
    torch.manual_seed(7)
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": tokenizer.pad_token_id}
    if kind == "gpt2":
        made: object = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=width, n_layer=2, n_head=4,
                                                  n_positions=256, **ends))  # fmt: skip
    else:
        made = LlamaForCausalLM(
            LlamaConfig(vocab_size=len(tokenizer), hidden_size=width, intermediate_size=48 if width == 32 else 128,
                        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                        max_position_embeddings=256, **ends)
        )  # fmt: skip
    made.save_pretrained(folder)  # type: ignore[attr-defined]
    tokenizer.save_pretrained(folder)
    return folder


def write_chats(path: Path, rows: int = 60, seed: int = 0) -> Path:
    """Questions of three kinds, each with its one answer; no question twice."""
    draw = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            kind = draw.choice(list(ANSWERS))
            asked = draw.choice(ASKED).format(kind) + " " + "?" * (number % 7) + str(number)
            row = [{"role": "user", "content": asked}, {"role": "assistant", "content": ANSWERS[kind]}]
            file.write(json.dumps({"messages": row}) + "\n")
    return path
