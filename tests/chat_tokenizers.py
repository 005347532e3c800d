"""Tiny tokenizers of the kinds that language models have, trained in a moment, and templates as found in the wild."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

LINES = [
    "### Instruction:\nSay hello.\n\n### Response:\n\nHello there, my friend.\n\n",
    "User: what is the answer? Assistant:  the answer is four.\n\n\nAnd  that is all there is.",
    "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n answer: hello there<|im_end|>\n",
    "你好，世界。你是谁？ 我是一个助手。 🎉🎉 café naïve 12 345\t\r\n",
    "Tunesmith asks: what is two and two? Tunesmith answers: four",
] * 4
CHATML = ("<|im_start|>", "<|im_end|>")


def gpt2_like(*, markers: bool = False, trim: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE that pads with its end of text. `markers`: with ChatML's tokens, `<|im_end|>` the end of text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    special = ["<|endoftext|>", *(CHATML if markers else ())]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(LINES, _trainer(trainers.BpeTrainer, special, initial_alphabet=alphabet))
    end = "<|im_end|>" if markers else "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token=end, pad_token=end)


def llama_like(*, legacy: bool = False) -> PreTrainedTokenizerFast:
    """Sentencepiece-like BPE that falls back on bytes and begins every text with `<s>`. `legacy`: a normaliser puts a
    space before each piece between special tokens, and nothing keeps any two letters from melting together.
    """
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(LINES, _trainer(trainers.BpeTrainer, ["<unk>", "<s>", "</s>"]))
    learned = json.loads(trained.to_str())["model"]
    vocabulary = dict(learned["vocab"])
    for byte in range(256):
        vocabulary.setdefault(f"<0x{byte:02X}>", len(vocabulary))
    merges = [tuple(each) for each in learned["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if legacy:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(parts)
    return _sentencepiece(tokenizer)


def unigram_like() -> PreTrainedTokenizerFast:
    """Unigram with metaspaces and NFKC, without bytes to fall back on: some characters it cannot say."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    trainer = _trainer(trainers.UnigramTrainer, ["<unk>", "<s>", "</s>"], unk_token="<unk>")
    tokenizer.train_from_iterator([*LINES, *map(chr, range(32, 127))], trainer)
    return _sentencepiece(tokenizer)


def _trainer(kind: Callable[..., Any], special: list[str], **options: Any) -> Any:
    return kind(vocab_size=400, special_tokens=special, show_progress=False, **options)


def _sentencepiece(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(["<s>", "</s>", "<unk>"])
    begin = [("<s>", tokenizer.token_to_id("<s>"))]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=begin)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


MAKERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "gpt2": gpt2_like,
    "gpt2 that trims offsets": functools.partial(gpt2_like, trim=True),
    "smollm": functools.partial(gpt2_like, markers=True),
    "llama": llama_like,
    "legacy llama": functools.partial(llama_like, legacy=True),
    "unigram": unigram_like,
}
LOSSLESS = tuple(name for name in MAKERS if name != "unigram")


@functools.cache
def _text_of(name: str) -> PreTrainedTokenizerFast:
    return MAKERS[name]()


def tokenizer_named(name: str, template: str | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of that kind with a template of its own, which no other test holds."""
    tokenizer = copy.deepcopy(_text_of(name))
    tokenizer.chat_template = template
    return tokenizer


WILD = {
    "llama 2": (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}"
        "{% elif m.role == 'assistant' %}{{ ' ' + m.content + ' ' + eos_token }}"
        "{% else %}{{ raise_exception('no ' + m.role) }}{% endif %}{% endfor %}"
    ),
    "mistral": (
        "{{ bos_token }}{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}{{ '[INST] ' }}"
        "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content + '\n\n' }}{% endif %}"
        "{{ m.content + '[/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
    ),
    "arguments as text": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% for call in m.tool_calls or [] %}"
        "{{ call.function.name + ': ' + call.function.arguments }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "phi 3": (
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ '<|endoftext|>' }}{% endif %}"
    ),
    "trimming": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "empty thought": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if m.role == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
        "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "thoughts taken out": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
        "{% if loop.last or m.role == 'user' %}{{ m.content }}{% else %}"
        "{{ m.content.split('</think>')[-1] }}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "thought begun": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content.split('</think>')[-1] + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
    ),
    "no generation prompt": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}\n"
    ),
    "no end": (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{{ 'assistant: ' if add_generation_prompt }}"
    ),
    "generation markers": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% generation %}{{ m.content + '<|im_end|>' }}"
        "{% endgeneration %}{{ '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "system left out": (
        "{% for m in messages if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "tail of an answer left out": (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content[:30] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}
