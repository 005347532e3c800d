"""Named chat templates for models that have none, kept in the tokenizer, so that plain transformers uses them as
well.

A template's markers are single tokens where the vocabulary has them and plain text where it has not. An answer must
end with a single token all the same, or the model would not learn to stop: where the vocabulary lacks the template's
own, that is the tokenizer's end of text. Nothing is added to the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from tunesmith.errors import ModelError, did_you_mean
from tunesmith.models.chat_rendering import ending_of, probe, require_offsets

AUTO = "auto"
USUAL = "chatml"
"""What `auto` gives a tokenizer that has no template."""

EOS = "{eos}"
"""Stands for the tokenizer's end of text in the parts of a template."""


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """What is written around each role's words. `end` is the token behind an answer, in place of which the end of
    text stands where the vocabulary lacks it; `begin` is written first if the chat has no system message; `tools`
    says whether tools and their calls have a place.
    """

    about: str
    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]
    end: str = EOS
    begin: str = ""
    tools: bool = False


TEMPLATES: Mapping[str, ChatTemplate] = MappingProxyType(
    {
        "chatml": ChatTemplate(
            "<|im_start|>role ... <|im_end|>: SmolLM2, Qwen and many others; the only one here with tools",
            system=("<|im_start|>system\n", "<|im_end|>\n"),
            user=("<|im_start|>user\n", "<|im_end|>\n"),
            answer=("<|im_start|>assistant\n", "\n"),
            end="<|im_end|>",
            tools=True,
        ),
        "llama3": ChatTemplate(
            "<|start_header_id|>role<|end_header_id|> ... <|eot_id|>: Llama 3",
            system=("<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"),
            user=("<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"),
            answer=("<|start_header_id|>assistant<|end_header_id|>\n\n", ""),
            end="<|eot_id|>",
        ),
        "zephyr": ChatTemplate(
            "<|role|> ... end of text: Zephyr, TinyLlama",
            system=("<|system|>\n", EOS + "\n"),
            user=("<|user|>\n", EOS + "\n"),
            answer=("<|assistant|>\n", "\n"),
        ),
        "alpaca": ChatTemplate(
            "### Instruction: ... ### Response: ...: plain words, for base models",
            system=("", "\n\n"),
            user=("### Instruction:\n", "\n\n"),
            answer=("### Response:\n", "\n\n"),
            begin="Below is an instruction that describes a task. "
            "Write a response that appropriately completes the request.\n\n",
        ),
        "plain": ChatTemplate(
            "the words alone, a line break behind each message",
            system=("", "\n"),
            user=("", "\n"),
            answer=("", "\n"),
        ),
        "completion": ChatTemplate(
            "the words alone and nothing between them: the answer goes on where the prompt ends",
            system=("", ""),
            user=("", ""),
            answer=("", ""),
        ),
    }
)


def settle_template(tokenizer: Any, name: str = AUTO) -> str:
    """Give the tokenizer (changed in place) the template of that name, check that it can be learned from, and return
    its name.

    `auto` keeps the tokenizer's own and returns `own`, or gives it `chatml` where it has none. An own template that
    ignores `add_generation_prompt` is mended, so that a question is followed by what an answer begins with.
    ModelError for an unknown name, and for a template or tokenizer that cannot be learned from
    (`chat_rendering.ending_of`).
    """
    require_offsets(tokenizer)
    if name != AUTO and name not in TEMPLATES:
        known = ", ".join((AUTO, *TEMPLATES))
        raise ModelError(f'There is no chat template "{name}".{did_you_mean(name, TEMPLATES)} There are: {known}.')
    settled = name
    if name == AUTO:
        settled = "own" if tokenizer.chat_template else USUAL
    if settled == "own":
        _mend(tokenizer)
    else:
        tokenizer.chat_template = written(TEMPLATES[settled], tokenizer)
    ending_of(tokenizer)
    return settled


def written(template: ChatTemplate, tokenizer: Any) -> str:
    """A template in Jinja, as transformers keeps it with a tokenizer, for that tokenizer's vocabulary."""
    end = template.end if template.end == EOS or _is_one_token(tokenizer, template.end) else EOS
    before, after = (_text(each) for each in template.answer)
    calls = _CALLS if template.tools else _NO_CALLS
    pieces = [
        "{{- bos_token }}" if _begins_with_bos(tokenizer) else "",
        _SYSTEM_WITH_TOOLS if template.tools else _NO_TOOLS,
        "{%- if messages[0].role != 'system' %}" + _say(_text(template.begin)) + "{%- endif %}"
        if template.begin
        else "",
        "{%- for message in messages %}",
        "{%- if message.role == 'system' %}",
        "{%- if not (tools and loop.first) %}" if template.tools else "",
        _around(template.system),
        "{%- endif %}" if template.tools else "",
        "{%- elif message.role == 'user' %}" + _around(template.user),
        "{%- elif message.role == 'assistant' %}" + _say(before, _CONTENT) + calls + _say(_text(end), after),
        _TOOL if template.tools else "",
        "{%- else %}{{- raise_exception('it has no place for the role ' ~ message.role) }}",
        "{%- endif %}{%- endfor %}",
        "{%- if add_generation_prompt %}" + _say(before) + "{%- endif %}",
    ]
    return "".join(pieces)


def _mend(tokenizer: Any) -> None:
    """Let a template of the tokenizer's own that ignores `add_generation_prompt` write what its answers begin with."""
    if not isinstance(tokenizer.chat_template, str):
        return
    probed = probe(tokenizer)
    if probed.prompt == probed.question and probed.opening.strip():
        tokenizer.chat_template += "{%- if add_generation_prompt %}" + _say(_text(probed.opening)) + "{%- endif %}"


def _is_one_token(tokenizer: Any, text: str) -> bool:
    """Whether the vocabulary holds a marker as a token of its own, which text around it cannot melt into."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return (
        len(ids) == 1 and ids[0] in tokenizer.added_tokens_decoder and ids[0] == tokenizer.convert_tokens_to_ids(text)
    )


def _begins_with_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer begins every text with a token, as its model is used to."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id


def _text(part: str) -> str:
    """Jinja for a text: string literals, and the end of text where `EOS` stands."""
    return " + eos_token + ".join(json.dumps(piece, ensure_ascii=False) for piece in part.split(EOS))


def _around(parts: tuple[str, str]) -> str:
    before, after = (_text(each) for each in parts)
    return _say(before, _CONTENT, after)


def _say(*expressions: str) -> str:
    return "{{- " + " + ".join(expressions) + " }}"


_CONTENT = "(message.content or '')"
_NO_TOOLS = "{%- if tools %}{{- raise_exception('it has no place for tools; chatml has') }}{%- endif %}"
_NO_CALLS = (
    "{%- if message.tool_calls %}{{- raise_exception('it has no place for tool calls; chatml has') }}{%- endif %}"
)

# Tools as Qwen 2.5 and Hermes write them.
_SYSTEM_WITH_TOOLS = r"""
{%- if tools %}
{{- "<|im_start|>system\n" }}
{%- if messages[0].role == 'system' and messages[0].content %}{{- messages[0].content + "\n\n" }}{%- endif %}
{{- "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function " }}
{{- "signatures within <tools></tools> XML tags:\n<tools>" }}
{%- for tool in tools %}{{- "\n" + (tool | tojson) }}{%- endfor %}
{{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within " }}
{{- "<tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, " }}
{{- "\"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
{%- endif %}
"""
_CALLS = r"""
{%- for asked in message.tool_calls or [] %}
{%- set call = asked.function or asked %}
{%- if message.content or not loop.first %}{{- "\n" }}{%- endif %}
{{- "<tool_call>\n{\"name\": \"" + call.name + "\", \"arguments\": " + (call.arguments | tojson) + "}\n</tool_call>" }}
{%- endfor %}
"""
_TOOL = r"""
{%- elif message.role == 'tool' %}
{%- if loop.first or loop.previtem.role != 'tool' %}{{- "<|im_start|>user" }}{%- endif %}
{{- "\n<tool_response>\n" + (message.content or '') + "\n</tool_response>" }}
{%- if loop.last or loop.nextitem.role != 'tool' %}{{- "<|im_end|>\n" }}{%- endif %}
"""
