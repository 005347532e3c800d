"""The page of a range test of learning rates: one file, without scripts, that loads nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from tunesmith.run.report_parts.charts import Line, line_chart
from tunesmith.run.report_parts.facts import name_of
from tunesmith.run.report_parts.words import shown
from tunesmith.train.checkpoint import write_atomically

_PAGE = Markup("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>learning rates – tunesmith</title>
<style>{style}</style>
</head>
<body>
<header>
<div class="about"><span>method <b>{method}</b></span><span>task <b>{task}</b></span>
<span>model <b>{model}</b></span></div>
<h1>{headline}</h1>
<p class="lede">{lede}</p>
</header>
<main>
<section>
<h2>Loss while the rate rises</h2>
<p class="note">Each step has a higher rate than the last; the model is thrown away. Where the line falls the rate
teaches, where it turns up the rate is too high. The suggestion is the rate of the lowest smoothed loss divided by 10;
the best rate mostly lies between the two.</p>
<figure class="card" style="max-width:760px"><p class="legend"><span><i class="line c-after"></i>smoothed</span>
<span><i class="line c-soft"></i>each step</span></p>{chart}</figure>
<div class="card" style="margin-top:20px"><pre>{words}</pre></div>
</section>
</main>
<footer>Written by tunesmith. This page is one file, without scripts, and loads nothing from the network.</footer>
</body>
</html>
""")


def write_page(file: Path, found: Mapping[str, Any], words: Sequence[str]) -> None:
    """Write the page of what lr_find.json holds. DiskError where the disk refuses."""
    style = (Path(__file__).parent.parent / "report.css").read_text(encoding="utf-8")
    recipe = found["recipe"]
    suggested = found["suggested"]
    headline = "No rate is suggested" if suggested is None else f"Learning rate {suggested:.1e}"
    lede = words[0] if suggested is None else f"For the head {suggested * found['head_ratio']:.1e}, in the same ratio."
    page = _PAGE.format(
        style=Markup(style),
        method=shown(name_of(recipe["method"])),
        task=shown(name_of(recipe["task"])),
        model=shown(name_of(recipe["model"])),
        headline=headline,
        lede=lede,
        chart=_chart(found),
        words=escape("\n".join(map(shown, words))),
    )
    write_atomically(file, str(page))


def _chart(found: Mapping[str, Any]) -> Markup:
    """Loss over the logarithm of the rate; what broke away is cut at a height that leaves the rest to be seen."""
    x = np.log10(np.asarray(found["rates"], np.float64))
    raw, smoothed = (np.asarray(found[key], np.float64) for key in ("losses", "smoothed"))
    top = max(float(smoothed[0]) * 1.5, float(np.nanmin(smoothed)) * 1.5, float(np.nanpercentile(raw, 80)))
    lines = [Line("soft", x, np.minimum(raw, top)), Line("bold", x, np.minimum(smoothed, top))]
    mark = None
    if found["suggested"] is not None and found["suggested"] >= found["rates"][0]:
        at = math.log10(found["suggested"])
        mark = (at, float(np.interp(at, x, smoothed)), f"suggested {found['suggested']:.1e}")
    told = f"Loss over {len(x)} rising learning rates, from {smoothed[0]:.3f}, at its lowest {smoothed.min():.3f}."
    return line_chart(lines, label=told, x_title="learning rate, as a power of ten", y_title="loss", mark=mark)
