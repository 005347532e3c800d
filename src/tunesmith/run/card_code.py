"""The card's few lines of Python that load a delivered model with plain libraries and ask it one thing.

Which lines follows from what lies in `best/`: `adapter_config.json` means peft; a `config.json` with an `architecture`
is timm's, or torchvision's where it says so; any other is transformers'. A `load.py` beside the weights, which comes
with a detector that no single call builds, is run. Learned tokens and prefixes of a picture model, and an adapter on
weights that no file holds (drawn from a seed, or stretched to another size of picture), are read back by tunesmith
alone, and the lines then say so.
"""

from __future__ import annotations

import json
from typing import Any

from tunesmith.models.vision_cards import card_of
from tunesmith.models.vision_source import DRAWN
from tunesmith.run import card_language
from tunesmith.run.report_parts.facts import Facts

PICTURE = "a_picture.jpg"
HERE = card_language.HERE
CONFIG = 'config = json.load(open(f"{folder}/config.json"))'
ADAPTED = card_language.ADAPTED


def code(facts: Facts) -> str:
    """The lines, fenced as Python."""
    if learned_inputs(facts):
        lines = _by_tunesmith("No library has a form for learned inputs of a picture model, so tunesmith reads them.")
    elif facts.speaks:
        lines = card_language.lines(facts, adapter(facts))
    elif facts.task == "object_detection":
        lines = _detector(facts)
    elif facts.task == "image_classification" and library(facts) != "transformers":
        lines = _network(facts, library(facts))
    elif facts.task == "image_classification":
        every = ', function_to_apply="sigmoid"' if facts.manifest.get("multi_label") else ""
        lines = _transformers(
            facts,
            ("AutoModelForImageClassification", "AutoImageProcessor", "pipeline"),
            f'"image-classification", model=model, image_processor=AutoImageProcessor.from_pretrained(folder){every}',
            PICTURE,
        )
    else:
        every = ", top_k=None" if facts.manifest.get("multi_label") else ""
        lines = _transformers(
            facts,
            ("AutoModelForSequenceClassification", "AutoTokenizer", "pipeline"),
            f'"text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(folder){every}',
            "A text to classify.",
        )
    return f"```python\n{lines}\n```"


def library(facts: Facts) -> str:
    """The library that builds the network: timm, torchvision or transformers."""
    config = _read(facts, "config.json")
    told = config.get("library") or ("timm" if facts.noun == "picture" and "architecture" in config else "")
    return str(told or (not config and (facts.manifest.get("model") or {}).get("library")) or "transformers")


def adapter(facts: Facts) -> dict[str, Any]:
    """What peft itself says of a delivered adapter; empty for a whole model."""
    return _read(facts, "adapter_config.json")


def learned_inputs(facts: Facts) -> bool:
    """Whether `best/` holds learned tokens or prefixes, which no plain library puts into the network beside them."""
    return bool(_read(facts, "base_model.json")) and not adapter(facts)


def _transformers(facts: Facts, names: tuple[str, ...], made_of: str, asked: str) -> str:
    """A model of transformers, with its adapter or whole, and the pipeline that asks it. names: its class first."""
    load = f"{names[0]}.from_pretrained"
    if not adapter(facts):
        imports, model = f"from transformers import {_listed(names)}", f"model = {load}(folder).eval()"
    else:
        imports = f"from peft import PeftModel\nfrom transformers import {_listed(('AutoConfig', *names))}"
        # the classes and the way of pooling stand in the configuration beside the adapter, not in the base's own
        config = "AutoConfig.from_pretrained(folder)"
        if not (facts.folder / "best" / "config.json").is_file():
            labels = json.dumps(facts.labels, ensure_ascii=False)
            kind = "multi" if facts.manifest.get("multi_label") else "single"
            kind = f'problem_type="{kind}_label_classification"'
            config = f"AutoConfig.from_pretrained(base, id2label=dict(enumerate({labels})), {kind})"
        given = f"config={config}, ignore_mismatched_sizes=True"
        base = json.dumps(str(adapter(facts).get("base_model_name_or_path") or _model(facts).get("name", "")))
        model = f"base = {base}  # the pretrained model\nmodel = {load}(base, {given})\n{ADAPTED}"
    verb = "find" if facts.task == "object_detection" else "classify"
    return f'{imports}\n\n{HERE}\n{model}\n{verb} = pipeline({made_of})\nprint({verb}("{asked}"))'


def _detector(facts: Facts) -> str:
    if not (facts.folder / "best" / "load.py").is_file():
        names = ("AutoModelForObjectDetection", "AutoImageProcessor", "pipeline")
        made_of = '"object-detection", model=model, image_processor=AutoImageProcessor.from_pretrained(folder)'
        return _transformers(facts, names, made_of, PICTURE)
    return "\n".join(
        (
            "import runpy",
            "import torch",
            "from PIL import Image",
            "from torchvision.transforms.v2.functional import pil_to_tensor",
            "",
            HERE,
            'loaded = runpy.run_path(f"{folder}/load.py")  # plain torchvision, no tunesmith in it',
            'model, classes = loaded["model"], loaded["c"]["categories"]',
            f'picture = pil_to_tensor(Image.open("{PICTURE}").convert("RGB")) / 255',
            "with torch.inference_mode():",
            "    found = model([picture])[0]",
            'for box, number, score in zip(found["boxes"], found["labels"], found["scores"]):',
            "    print(classes[number], float(score), box.tolist())",
        )
    )


def _network(facts: Facts, builder: str) -> str:
    """A network of timm or torchvision, with its adapter or whole, and one picture through it."""
    base, tuned = _read(facts, "base_model.json"), adapter(facts)
    if tuned and not _rebuilt(base, builder):
        return _by_tunesmith(
            "The weights below this adapter stand in no file as they were tuned: tunesmith makes them."
        )
    imports = ["import json", "import torch", f"import {builder}", "from PIL import Image"]
    key, count = ('"label_names"', "num_classes=len(labels)") if builder == "timm" else ('"labels"', "")
    lines = [HERE, CONFIG, f"labels = config[{key}]"]
    if builder == "torchvision":
        imports.append("from torchvision.transforms import v2")
        made = 'torchvision.models.get_model(config["architecture"], weights=None, num_classes=len(labels)'
        made += ', **config["arguments"])'
    else:
        made = f"timm.create_model({json.dumps(base.get('source', {}).get('architecture', ''))}, {count})"
    if not tuned and builder == "timm":
        lines.append('model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()')
    elif not tuned:
        imports.append("from safetensors.torch import load_file")
        lines += [f"model = {made}", 'model.load_state_dict(load_file(f"{folder}/model.safetensors"))', "model.eval()"]
    else:
        imports.append("from peft import PeftModel")
        source = base["source"]
        if builder == "timm" and not source["weights"]:
            path = json.dumps(f"local-dir:{source['path']}")
            lines.append(f"model = timm.create_model({path}, pretrained=True, {count})  # the pretrained model")
        else:
            lines += [f"model = {made}", *_weights(source, tuned, imports)]
        if builder == "timm" and base.get("size"):
            lines.append(
                f'if hasattr(model, "set_input_size"):\n    model.set_input_size(img_size={tuple(base["size"])})'
            )
        lines.append(ADAPTED)
    lines += _timm_picture() if builder == "timm" else _torchvision_picture()
    chances = "sigmoid()" if facts.manifest.get("multi_label") else "softmax(-1)"
    lines += ["with torch.inference_mode():", f"    chances = model(picture[None])[0].{chances}"]
    lines.append("print(dict(zip(labels, chances.tolist())))")
    return "\n".join([*sorted(imports, key=lambda line: (line.startswith("from"), line)), "", *lines])


def _weights(source: dict[str, Any], tuned: dict[str, Any], imports: list[str]) -> list[str]:
    """Lines that put the pretrained weights into a new network: all but the head, which the adapter brings."""
    file = source["weights"] or f"{source['path']}/model.safetensors"
    lines = [f"base = {json.dumps(file)}  # the pretrained weights"]
    if file.endswith(".safetensors"):
        imports.append("from safetensors.torch import load_file")
        lines.append("weights = load_file(base)")
    else:
        # a line of the card, for its reader to run: as safe as our own reading of a .pth
        lines.append('weights = torch.load(base, map_location="cpu", weights_only=True)')
    if _in_order(source):
        lines.append("weights = dict(zip(model.state_dict(), weights.values()))  # other names, in the same order")
    head = json.dumps([f"{name}." for name in tuned.get("modules_to_save") or ()])
    lines.append(f"head = tuple({head})  # comes with the adapter")
    lines.append("weights = {name: tensor for name, tensor in weights.items() if not name.startswith(head)}")
    return [*lines, "model.load_state_dict(weights, strict=False)"]


def _in_order(source: dict[str, Any]) -> bool:
    """Whether a weight file is known to go by other names than its network's."""
    found = (card_of(sha256) for name, sha256 in (source.get("sha256") or {}).items() if name != DRAWN)
    return bool(source["weights"]) and any(card is not None and card.in_order for card in found)


def _rebuilt(base: dict[str, Any], builder: str) -> bool:
    """Whether a few plain lines give back the network below an adapter."""
    source = base.get("source") or {}
    held = source.get("weights") != DRAWN and bool(source.get("weights") or source.get("path"))
    return held and not (builder == "torchvision" and base.get("size"))


def _by_tunesmith(why: str) -> str:
    return "\n".join(
        (
            f"# {why}",
            "from pathlib import Path",
            "from tunesmith.models.vision_files import read_image_classifier",
            "",
            'model, form = read_image_classifier(Path("."))  # the folder where this file lies',
        )
    )


def _timm_picture() -> list[str]:
    return [
        'form = timm.data.resolve_data_config(pretrained_cfg=config["pretrained_cfg"])',
        f'picture = timm.data.create_transform(**form)(Image.open("{PICTURE}").convert("RGB"))',
    ]


def _torchvision_picture() -> list[str]:
    return [
        'form = config["form"]',
        'size = [form["height"], form["width"]]',
        'sides = size if form["squash"] else int(min(size) / form["crop_share"] + 1e-6)',
        'steps = [v2.ToImage(), v2.Resize(sides, v2.InterpolationMode(form["interpolation"])), v2.CenterCrop(size)]',
        'steps += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(form["mean"], form["std"])]',
        f'picture = v2.Compose(steps)(Image.open("{PICTURE}").convert("RGB"))',
    ]


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(sorted(names))


def _model(facts: Facts) -> dict[str, Any]:
    return dict(facts.manifest.get("model") or {})


def _read(facts: Facts, name: str) -> dict[str, Any]:
    """A JSON file of `best/`; empty where it is not there."""
    file = facts.folder / "best" / name
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
