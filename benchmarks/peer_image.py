"""The peer for pictures: a plain loop of the usual kind (timm, torchvision transforms, a DataLoader, AdamW, peft).

What people write: `model.train()`, random resized crops and flips, one learning rate with a cosine, the last epoch
taken. BatchNorm is left as train() leaves it, as in most such loops.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from tunesmith.places import resolve_place

RATES = {"full": 1e-3, "head": 1e-3, "lora": 1e-3, "norm_tuning": 1e-3}
"""AdamW rates of the usual kind; 1e-3 is its default."""


def load_lite0(weights: str, classes: int) -> nn.Module:
    """The tf_efficientnet_lite0 of timm with the ImageNet weights of the pip package, tensor by tensor in order."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    given = torch.load(weights, map_location="cpu", weights_only=True)
    names = list(model.state_dict())
    assert len(names) == len(given)
    model.load_state_dict(dict(zip(names, given.values(), strict=True)))
    model.reset_classifier(classes)
    return model


def transforms(size: int, mean: Any, std: Any, *, train: bool) -> v2.Compose:
    """Random resized crop and flip, or resize and centre crop."""
    if train:
        cut: list[Any] = [v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip()]
    else:
        cut = [v2.Resize(int(size / 0.875), antialias=True), v2.CenterCrop(size)]
    return v2.Compose([v2.ToImage(), *cut, v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])


def chosen(model: nn.Module, method: str) -> nn.Module:
    """What learns, as people choose it."""
    if method == "full":
        return model
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        convs = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and "blocks" in n]
        return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=convs,
                                                modules_to_save=["classifier"]))  # fmt: skip
    model.requires_grad_(False)
    for module in model.modules():
        if method == "norm_tuning" and isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(True)
    model.get_classifier().requires_grad_(True)  # type: ignore[operator]
    return model


def train(
    model: nn.Module, folder: Path, *, size: int, mean: Any, std: Any, epochs: int, batch: int, rate: float, seed: int
) -> dict[str, float]:
    """The loop; accuracy on the test folder after the last epoch, and images a second of training."""
    torch.manual_seed(seed)
    parts = {
        name: ImageFolder(str(folder / name), transforms(size, mean, std, train=name == "train"))
        for name in ("train", "test")
    }
    loader: Any = DataLoader(parts["train"], batch, shuffle=True, num_workers=0)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learned, lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    began, seen = time.perf_counter(), 0
    for _ in range(epochs):
        model.train()
        for pixels, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(pixels), labels).backward()
            optimizer.step()
            schedule.step()
            seen += len(labels)
    seconds = time.perf_counter() - began
    model.eval()
    right = 0
    with torch.inference_mode():
        for pixels, labels in DataLoader(parts["test"], 32):
            right += int((model(pixels).argmax(1) == labels).sum())
    return {"accuracy": right / len(parts["test"]), "seconds": seconds, "images_a_second": seen / seconds}


def main() -> None:
    folder, method, seed, epochs, weights = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(int(seed))
    classes = len([p for p in (Path(folder) / "train").iterdir() if p.is_dir()])
    model = chosen(load_lite0(str(resolve_place(weights)), classes), method)
    half = (0.5, 0.5, 0.5)
    found = train(model, Path(folder), size=224, mean=half, std=half, epochs=int(epochs), batch=16,
                  rate=RATES[method], seed=int(seed))  # fmt: skip
    print("RESULT " + json.dumps(found))


if __name__ == "__main__":
    main()
