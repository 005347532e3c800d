"""The model card: what stands beside a delivered model, in the form that the Hugging Face hub reads.

`best/README.md` holds YAML front matter and a page in plain words. It states what was measured and nothing else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tunesmith.errors import DiskError, RunError
from tunesmith.run import card_code, card_language
from tunesmith.run.report_parts import words
from tunesmith.run.report_parts.facts import Facts, read_facts
from tunesmith.written import write_whole

LICENCES = (
    *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "unlicense", "mpl-2.0", "cc0-1.0", "cc-by-4.0"),
    *("cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "openrail"),
    *("bigscience-openrail-m", "gemma", "llama2", "llama3", "llama3.1", "llama3.2"),
)
"""Names of licences that the hub knows; any other is written as `other` with its name beside it."""

METRICS = {
    "accuracy": "accuracy",
    "macro_f1": "f1",
    "micro_f1": "f1",
    "mcc": "matthews_correlation",
    "auroc": "roc_auc",
    "ap": "mean_average_precision",
    "ap50": "mean_average_precision",
    "perplexity": "perplexity",
    "token_accuracy": "accuracy",
    "rouge_l": "rouge",
    "exact_match": "exact_match",
}
"""Our names of scores and the hub's."""

HUB_LIBRARIES = ("peft", "transformers", "timm")
"""Libraries that the hub loads models with; it knows none for torchvision's networks."""


def write_card(folder: Path) -> Path:
    """Write `folder/best/README.md` and return its path. RunError if nothing was delivered yet, DiskError if it can't.

    A card that a library wrote there before (peft writes an empty one) is replaced.
    """
    folder = Path(folder)
    best = folder / "best"
    if not best.is_dir():
        raise RunError(f"{best} is not there: the run has delivered no model yet. Finish it with `tunesmith resume`.")
    facts = read_facts(folder)
    target = best / "README.md"
    try:
        write_whole(target, f"---\n{front_matter(facts)}---\n\n{page(facts)}", errors="backslashreplace")
    except OSError as error:
        raise DiskError(
            f"cannot write {target}: {error.strerror or error}. Free some space or check its rights."
        ) from error
    return target


def front_matter(facts: Facts) -> str:
    """The YAML that the hub reads. `base_model` only for a hub name: the hub refuses a folder there."""
    model = _model(facts)
    head: dict[str, Any] = {}
    licence = str(model.get("licence") or "")
    if licence:
        known = licence.lower() in LICENCES
        head |= {"license": licence.lower()} if known else {"license": "other", "license_name": _slug(licence)}
    if _on_hub(str(model.get("name", ""))):
        head["base_model"] = model["name"]
    language = _language(facts)
    if language:
        head["language"] = [language]
    kind = "text-generation" if facts.speaks else (facts.task or "text_classification").replace("_", "-")
    head["pipeline_tag"] = kind
    library = "peft" if card_code.adapter(facts) else card_code.library(facts)
    if library in HUB_LIBRARIES:
        head["library_name"] = library
    head["tags"] = [kind, "tunesmith"]
    scores = facts.scores.get("after") or {}
    measured = {name: scores[name] for name in METRICS if words.measured(name, scores.get(name)) is not None}
    if measured:
        head["metrics"] = list(dict.fromkeys(METRICS[name] for name in measured))
        values = [{"type": METRICS[n], "name": words.name(n), "value": round(v, 4)} for n, v in measured.items()]
        data = words.shown(_data_name(facts))
        result = {
            "task": {"type": kind},
            "dataset": {"name": data, "type": data, "split": facts.scores.get("part", "test")},
            "metrics": values,
        }
        head["model-index"] = [{"name": facts.folder.resolve().name, "results": [result]}]
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True)


def _on_hub(name: str) -> bool:
    """Whether a model's name is one of the hub: not a folder, and of timm's and torchvision's own names only those of
    timm with the tag of their weights (timm/resnet18.a1_in1k)."""
    owner, _, own = name.partition("/")
    if owner == "torchvision" or (owner == "timm" and "." not in own):
        return False
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not os.path.isdir(name)


def page(facts: Facts) -> str:
    """The card below its front matter."""
    sections = [
        f"# {_inline(facts.folder.resolve().name)}",
        _what(facts),
        "## Scores\n\n" + _scores(facts),
        "## Use it\n\n" + card_code.code(facts),
        "## Meant for\n\n" + _meant(facts),
        "## Data\n\n" + _data(facts),
        "## Known limits\n\n" + _limits(facts),
    ]
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


def _what(facts: Facts) -> str:
    method, cost = facts.recipe.get("method") or {}, facts.scores.get("cost") or {}
    method = method.get("name", "") if isinstance(method, Mapping) else method
    learned = ""
    if cost.get("learned"):
        of = f"{words.count(cost['learned'])} parameters ({words.share(cost['learned'], cost.get('total'))})"
        learned = f" It learned {of} in {words.seconds(cost.get('seconds'))}."
    base = _code_span(facts.model_name or "a pretrained model")
    how = f" by `{_code_span(method)}`" if method else ""
    if facts.speaks:
        return f"`{base}` fine-tuned{how} to {card_language.does(facts)}.{learned}"
    if facts.task == "object_detection":
        return f"`{base}` fine-tuned{how} to find objects of {len(facts.labels)} classes in pictures.{learned}"
    return f"`{base}` fine-tuned{how} to classify {facts.noun}s into {len(facts.labels)} classes.{learned}"


def _scores(facts: Facts) -> str:
    after, before = facts.scores.get("after") or {}, facts.scores.get("before") or {}
    if not after:
        return "The run has no final scores."
    intervals = facts.scores.get("intervals", {}).get("after", {})
    rows = ["| score | before | after | 95 % interval |", "|---|---|---|---|"]
    for metric, value in after.items():
        if not metric.startswith(words.BY_CLASS):
            ends = words.span(intervals.get(metric))
            earlier, later = (words.score(words.measured(metric, v)) for v in (before.get(metric), value))
            rows.append(f"| {words.name(metric)} | {earlier} | {later} | {ends} |")
    told = words.headline(facts.scores, facts.examples)
    return f"{told['name']} {told['after']} {told['where']}. {told['verdict']}\n\n" + "\n".join(rows)


def _meant(facts: Facts) -> str:
    if facts.speaks:
        return card_language.meant(facts)
    kind = "any number of these labels" if facts.manifest.get("multi_label") else "exactly one of these labels"
    labels = ", ".join(f"`{_code_span(label)}`" for label in facts.labels)
    things, applies = f"{facts.noun.capitalize()}s", f"to each of which {kind} applies"
    if facts.task == "object_detection":
        applies = "in which objects of these classes are to be found"
    others = "texts of another kind or language" if facts.noun == "text" else "pictures of another kind or camera"
    return (
        f"{things} of the kind it was trained on, {applies}: {labels}.\n\n"
        f"Not meant for decisions about people without a person's judgement, nor for {others}: "
        "the scores above say nothing about those."
    )


def _data(facts: Facts) -> str:
    summary = (facts.manifest.get("data") or {}).get("summary") or {}
    if not summary:
        return "Nothing is recorded."
    counted = [f"{words.count(summary.get(key))} {key}" for key in ("used", "quarantined", "blank")]
    parts = ", ".join(f"{words.count(size)} {part}" for part, size in summary.get("split_sizes", {}).items())
    lines = [
        f"`{_code_span(_data_name(facts))}`: {words.count(summary.get('read'))} rows read, {', '.join(counted)}.",
        f"Parts: {parts}.",
    ]
    return "\n\n".join(lines)


def _limits(facts: Facts) -> str:
    """What was measured that a user should know; the notes of the data among it."""
    after = facts.scores.get("after") or {}
    found = [_inline(note) for note in (facts.manifest.get("data") or {}).get("summary", {}).get("notes", ())]
    if facts.cut:
        found.append(facts.cut)
    measured = [(metric, value) for metric, value in after.items() if metric.startswith(words.BY_CLASS) and value >= 0]
    if len(measured) > 1:
        metric, value = min(measured, key=lambda pair: pair[1])
        score, _, weakest = metric.partition("/")
        said = {"f1": "an F1", "ap": "an AP"}[score]
        found.append(f"The weakest class is `{_code_span(weakest)}` with {said} of {words.score(value)}.")
    if "ece" in after:
        temperature = facts.scores.get("temperature")
        tempered = isinstance(temperature, int | float)
        advice = (
            f" Divide the logits by {temperature:.3g} for better ones; the answers stay the same." if tempered else ""
        )
        found.append(f"Its stated probabilities are off by {words.score(after['ece'])} on average.{advice}")
    found += card_language.limits(facts)
    return "\n".join(f"- {line}" for line in found) if found else "None were measured."


def _model(facts: Facts) -> Mapping[str, Any]:
    return facts.manifest.get("model") or {}


def _data_name(facts: Facts) -> str:
    """The data's own name: a file's without the folders of one machine, a hub or package name as it is."""
    data = facts.recipe.get("data")
    path = str(data.get("path", "") if isinstance(data, Mapping) else data or "data")
    return path if ":" in path[2:] else Path(path).name or path


def _language(facts: Facts) -> str:
    """`zh`, `ja` or `ko` where the script tells; empty where it does not (Latin letters serve many languages)."""
    answers = facts.after
    text = "".join(str(row.get("text", "")) for row in answers.rows[:500]) if answers else ""
    letters = max(1, sum(c.isalpha() for c in text))
    kana = len(re.findall("[\u3040-\u30ff]", text))
    if len(re.findall("[\uac00-\ud7a3]", text)) > letters / 2:
        return "ko"
    if kana > letters / 10:
        return "ja"
    return "zh" if len(re.findall("[\u4e00-\u9fff]", text)) > letters / 2 else ""


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name.lower()).strip("-")


def _inline(text: object) -> str:
    """Foreign text on one line of Markdown, with what would start mark-up taken as it stands."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", words.shown(text))


def _code_span(text: object) -> str:
    """Foreign text inside backticks: nothing is mark-up there but the backtick itself."""
    return words.shown(text).replace("`", "’")
