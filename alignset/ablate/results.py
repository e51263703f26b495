"""The table and the plot: R@k of each variant, and how far it is from all rules.

An interval is the central 95 % of 1,000 resamples of both the seeds and the evaluation images. A
difference from all rules is taken within each resample, so that images which are hard for both
don't widen it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from alignset.train.data.whole_files import write_whole
from alignset.train.evaluate.bootstrap import RESAMPLES, SEED, central

Hits = Sequence[Mapping[str, Any]]  # of each seed what `train_variant` writes for one k


def cell_of(points: Hits, base: Hits) -> dict[str, float]:
    """R@k of a variant in percent, from low to high, and its difference from all rules (whose hits
    are `base`), from least to most."""
    (score, each), (base_score, base_each) = _resampled(points), _resampled(base)
    cell = (score, *central(each), score - base_score, *central(each - base_each))
    return dict(zip(("score", "low", "high", "difference", "least", "most"), cell, strict=True))


def _resampled(points: Hits) -> tuple[float, npt.NDArray[np.float64]]:
    """The mean R@k of both directions and all seeds: of what was measured, and of each resample."""
    of_image, of_text = (np.array([p[name] for p in points], float) for name in ("image", "text"))
    texts = np.array(points[0]["texts"], float)
    rng = np.random.default_rng(SEED)  # the same for all variants, which makes pairs of them
    images, seeds = len(texts), len(points)
    times = rng.multinomial(images, np.full(images, 1 / images), RESAMPLES).astype(float)
    seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    scores = (times @ of_image.T / images + times @ of_text.T / (times @ texts)[:, None]) / 2
    mean = (of_image.mean() + (of_text.sum(axis=1) / texts.sum()).mean()) / 2
    return 100 * float(mean), 100 * (scores * seed_weights).sum(axis=1)


def write_results(out: Path, settings: dict[str, Any], about: Mapping[str, str]) -> str:
    """Writes `ablation.json`, `ablation.md` and a plot for each evaluation set; returns the text of
    `ablation.md`, without its plots.

    Args:
      settings: of the ablation; its `results` are rows for each evaluation set.
      about: what each variant is.
    """
    write_whole(out / "ablation.json", json.dumps(settings, indent=2))
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name, rows in settings["results"].items():
        largest = max(cell["high"] for row in rows for cell in row["budgets"].values())
        widest = next((n for n in (1, 2, 5, 10, 20, 30, 40, 50, 60, 80) if n >= largest), 100)
        plot = templates.get_template("ablation.svg.j2")
        title = f"{settings['measure']} on {name}, with 95 % intervals"
        write_whole(
            out / f"ablation-{name}.svg", plot.render(rows=rows, widest=widest, title=title)
        )
    page = templates.get_template("ablation.md.j2")
    write_whole(out / "ablation.md", page.render(settings, about=about, plots=True))
    return page.render(settings, about=about)
