"""What a model card says of a language model: what it does, what it is not meant for, and lines that ask it a thing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunesmith.run.report_parts.facts import Facts

HERE = 'folder = "."  # where this file lies'
ADAPTED = "model = PeftModel.from_pretrained(model, folder).eval()"
QUESTION, OPENING = "Who are you?", "It was the best of times,"


def goes_on(facts: Facts) -> bool:
    """Whether the model learned plain texts, which it goes on with, and not conversations."""
    chats = [row.get("chat") or {} for row in _rows(facts)]
    return bool(chats) and all("text" in chat for chat in chats)


def does(facts: Facts) -> str:
    """What it was tuned to do."""
    return "go on with texts" if goes_on(facts) else "answer"


def meant(facts: Facts) -> str:
    """What it is meant for, and what not."""
    things = "Texts to go on with" if goes_on(facts) else "Questions and conversations"
    return (
        f"{things} of the kind it was trained on.\n\n"
        "Not meant as a source of facts, nor for decisions about people without a person's judgement: what it writes "
        "may be wrong and sound right, and the scores above say nothing about questions of another kind or language."
    )


def limits(facts: Facts) -> list[str]:
    """Sentences on what its generated answers showed."""
    said = [row["after"] for row in _rows(facts) if isinstance(row.get("after"), Mapping)]
    cut = sum(not answer.get("ended") for answer in said)
    most = facts.generated.get("most_tokens")
    return [f"{cut:,} of {len(said):,} generated answers did not end within {most} tokens."] if cut else []


def lines(facts: Facts, tuned: Mapping[str, Any]) -> str:
    """Lines of plain transformers (and peft) that load the model and ask it one thing through its chat template.

    tuned: what peft says of a delivered adapter; empty for a whole model.
    """
    names, load = ["AutoModelForCausalLM", "AutoTokenizer"], "AutoModelForCausalLM.from_pretrained"
    imports = ["import torch"]
    body = [HERE, "tokenizer = AutoTokenizer.from_pretrained(folder)"]
    if tuned:
        imports.append("from peft import PeftModel")
        told = facts.manifest.get("model") or {}
        own, bits = told.get("name", ""), told.get("bits")
        what = "the pretrained model" + (
            f" in {bits} bits; needs bitsandbytes, which rounds a little otherwise" if bits else ""
        )
        base = json.dumps(str(tuned.get("base_model_name_or_path") or own))
        body += [f"base = {base}  # {what}", f"model = {load}(base, dtype=torch.float32)", ADAPTED]
    else:
        body.append(f"model = {load}(folder, dtype=torch.float32).eval()")
    given = "max_new_tokens=200, do_sample=False"
    if (facts.folder / "best" / "generation_config.json").is_file():
        names.append("GenerationConfig")
        body += [
            "ways = GenerationConfig.from_pretrained(folder)  # where an answer ends, among others",
            "ways.update(max_new_tokens=200, do_sample=False)",
        ]
        given = "generation_config=ways"
    body += [
        *_prompt(facts),
        f"answer = model.generate(**prompt, {given})",
        'print(tokenizer.decode(answer[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))',
    ]
    return "\n".join([*imports, f"from transformers import {', '.join(sorted(names))}", "", *body])


def _prompt(facts: Facts) -> list[str]:
    if goes_on(facts):
        return [f'prompt = tokenizer({json.dumps(OPENING)}, return_tensors="pt")']
    return [
        f'chat = [{{"role": "user", "content": {json.dumps(QUESTION)}}}]',
        "prompt = tokenizer.apply_chat_template(",
        '    chat, add_generation_prompt=True, return_tensors="pt", return_dict=True',
        ")",
    ]


def _rows(facts: Facts) -> list[Mapping[str, Any]]:
    rows = facts.generated.get("rows")
    return [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
