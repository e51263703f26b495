"""alignset ablate --input=PAIRS --output=FOLDER --eval=DATA [flags]

An interval is the central 95 % of 1,000 resamples of both the seeds and the evaluation images. A
difference from all rules is taken within each resample, so that images which are hard for both
don't widen it.
"""

import json
import multiprocessing
import os
import shlex
import shutil
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt

from alignset.ablate.plan import read_plan
from alignset.ablate.pool import ALL, RANDOM, Pool, Variant, copy_shards, curate
from alignset.pipeline.command_line import print_end, print_failure
from alignset.pipeline.errors import FailedRunError, UsageError
from alignset.pipeline.inputs.earlier_sets import earlier_set
from alignset.pipeline.settings import split_inputs
from alignset.pipeline.shown_texts import counted
from alignset.signals import end_with_parent, run_main
from alignset.train.data.whole_files import write_whole
from alignset.train.evaluate.bootstrap import RESAMPLES, SEED, central
from alignset.transforms.rules.catalogue import PRODUCT

Hits = Sequence[Mapping[str, Any]]  # of each seed what `train_variant` writes for one k
NAME = "python -m alignset.ablate"
_LARGEST_SQUARE = 128  # px; a larger one would take more space than the image


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def open_folder(out: Path, same: dict[str, object]) -> None:
    """Raises UsageError where it holds something other than an ablation with these settings."""
    file = out / "settings.json"
    if not file.exists() and out.exists() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty, and holds no ablation: name a new folder")
    begun = json.loads(file.read_text()) if file.exists() else same
    if other := [name for name in same if begun.get(name) != same[name]]:
        raise UsageError(
            f"{out} was begun with another --{other[0]} ({begun.get(other[0])!r:.200}): pass "
            "that, or another --output"
        )
    for folder in ("logs", "points", "variants"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    write_whole(file, json.dumps(same, indent=2))


def ablate(plan: Namespace, command: str) -> str:
    """Does what is not done yet, and writes the results; returns the tables.

    Raises:
      UsageError: the folder is of another ablation, or a variant keeps too little to train on.
      FailedRunError: a run failed.
    """
    out, batch, seeds = plan.output, plan.settings.batch_size, range(plan.seeds)
    open_folder(out, plan.same)
    rule_reasons = {rule.reason for rule in PRODUCT.rules}
    for made in filter(None, map(earlier_set, split_inputs(plan.input))):
        if reasons := [name for name, n in made.dropped().items() if n and name in rule_reasons]:
            say(
                f"{made.folder}: its rules have dropped pairs already ({', '.join(reasons)}), and "
                "cannot be compared: pass its own input, or a dataset made with --score_only"
            )
    say("1 of 3: the pool: everything is fetched and measured once, and no rule drops a pair")
    curate(plan.pool_flags, plan.beam)
    pool = Pool(out)
    say(f"2 of 3: what each of {len(plan.variants)} variants keeps of {len(pool.pairs):,} pairs")
    about = {variant.name: variant.about for variant in plan.variants}
    pairs, same_as, names = dict[str, int](), dict[str, str](), dict[bytes, str]()
    for variant in sorted(plan.variants, key=lambda variant: variant.name != ALL):
        mask, name = pool.mask(variant), variant.name
        pairs[name], twin = int(mask.sum()), names.setdefault(mask.tobytes(), name)
        if twin != name and (name != RANDOM or mask.all()):  # each seed has another random part
            same_as[name] = twin
        say(f"  {name}: {pairs[name]:,}{f', as {twin}' if name in same_as else ''}")
        if pairs[name] < batch:
            raise UsageError(
                f"{name} keeps {counted(pairs[name], 'pair')}, fewer than a batch of {batch}: pass "
                'more --input, or --train="--batch_size=…"'
            )
    jobs = {
        (name, seed): {b: out / f"points/{name}-{b}-{seed}.json" for b in plan.budgets}
        for name in about
        for seed in seeds
        if name not in same_as
    }
    pending = [b for files in jobs.values() for b, file in files.items() if not file.exists()]
    say(f"3 of 3: {counted(len(pending), 'training')}, {sum(pending):,} samples seen in all")
    if pending:
        _train(plan, jobs)

    def hits(name: str, budget: int, data: str) -> list[dict[str, list[int]]]:
        files = [jobs[same_as.get(name, name), seed][budget] for seed in seeds]
        return [json.loads(f.read_text())["scores"][data][str(plan.recall_at)] for f in files]

    def row(name: str, data: str) -> dict[str, object]:
        cells = {b: cell_of(hits(name, b, data), hits(ALL, b, data)) for b in plan.budgets}
        facts = {"variant": name, "pairs": pairs[name], "same_as": same_as.get(name, "")}
        return {**facts, "budgets": cells}

    settings = {
        **{"command": command, "seeds": plan.seeds, "measure": f"R@{plan.recall_at}"},
        "chance": {data: hits(ALL, plan.budgets[0], data)[0]["chance"] for data in plan.eval},
        **plan.same,
        "results": {data: [row(name, data) for name in about] for data in plan.eval},
    }
    return write_results(out, settings, about)


def _train(plan: Namespace, jobs: Mapping[tuple[str, int], Mapping[int, Path]]) -> None:
    import torch

    variants = {variant.name: variant for variant in plan.variants}
    cores = os.cpu_count() or 1  # a training fills a GPU, or a core
    workers = plan.jobs or (1 if torch.cuda.is_available() else min(cores, 16))
    os.environ["OMP_NUM_THREADS"] = str(max(1, cores // min(workers, len(jobs))))
    spawn, logs = multiprocessing.get_context("spawn"), plan.output / "logs"
    start = time.monotonic()
    with ProcessPoolExecutor(workers, spawn, _begin_job, (logs, os.getpid())) as executor:
        names = {
            executor.submit(train_variant, plan, variants[name], seed, files): f"{name}-{seed}"
            for (name, seed), files in jobs.items()
            if not all(file.exists() for file in files.values())
        }
        try:
            for done, future in enumerate(as_completed(names), 1):
                future.result()
                left_s = round((time.monotonic() - start) / done * (len(names) - done))
                left = timedelta(seconds=left_s)
                say(f"  {done} of {len(names)}: {names[future]}; {left} left")
        except BaseException as error:
            executor.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise FailedRunError(
                    f"a training was killed, perhaps for want of memory; {logs} has what it said. "
                    "Pass a lower --jobs"
                ) from error
            raise


def _begin_job(logs: Path, parent: int) -> None:
    """Has this process, and its libraries, write to a file; it ends with its parent."""
    end_with_parent(parent)
    log = os.open(logs / f"job-{os.getpid()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


def train_variant(plan: Namespace, variant: Variant, seed: int, files: Mapping[int, Path]) -> None:
    """Trains and evaluates a model for each budget without a file; a stopped training resumes.

    A file has for each evaluation set and k `image`: 1 for an image that has a text of its own
    among the first k; `text`: how many of its texts have it among their first k; `texts`: how many
    it has; `chance`: R@k in percent of a random order.

    Raises:
      FailedRunError: a training failed; its log says why.
    """
    from alignset.train.__main__ import main as train
    from alignset.train.evaluate.embedding import Embedding
    from alignset.train.evaluate.image_sets import find_captioned
    from alignset.train.evaluate.task_table import RetrievalSettings
    from alignset.train.evaluate.tasks.retrieval import (
        KS,
        embed_captioned,
        find_both,
        hits_of_images,
        recall_scores,
    )
    from alignset.train.model.embed import open_embedder

    pool, shards = Pool(plan.output), plan.output / f"variants/{variant.name}-{seed}-shards"
    keys = pool.pairs["key"].filter(pool.mask(variant, seed)).to_pylist()
    side = plan.settings.resize_px
    side = side if side <= _LARGEST_SQUARE else 0
    copy_shards(plan.output / "pool/shards", shards, {*keys}, side)
    for budget, file in files.items():
        if file.exists():
            continue
        start, run = time.monotonic(), plan.output / "runs" / file.stem
        steps = -(-budget // plan.settings.batch_size)
        flags = {
            **{"shards": shards, "run": run, "steps": steps, "seed": seed, "trackers": ""},
            **{"warmup_steps": steps // 10, "checkpoint_every": steps, "samples_every": 0},
        }
        words = [f"--{name}={value}" for name, value in flags.items()]
        if train([*words, *shlex.split(plan.train)]):  # the user's flags win
            raise FailedRunError(f"a training failed: {file.stem}; {plan.output}/logs says why")
        result = {"variant": variant.name, "budget": budget, "seed": seed, "steps": steps}
        result |= {"train_s": round(time.monotonic() - start, 2), "scores": {}}
        embedding = Embedding(open_embedder(str(run / "model")), run)
        for name, data in plan.eval.items():
            captioned_set = find_captioned(RetrievalSettings(model="", data=data))
            _, pairs = embed_captioned(captioned_set, embedding, data)
            found = find_both(pairs)
            *hits, _, texts = hits_of_images(pairs, found).astype(int).T.tolist()
            ways = recall_scores(found)["chance"].values()
            result["scores"][name] = {
                str(k): {"image": of_image, "text": of_text, "texts": texts}
                | {"chance": sum(way[f"R@{k}"] for way in ways) / len(ways)}
                for k, of_image, of_text in zip(KS, hits[::2], hits[1::2], strict=True)
            }
        write_whole(file, json.dumps(result))
        shutil.rmtree(run)
    shutil.rmtree(shards)


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


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the command; returns 0 done, 1 failed, 2 wrong flags."""
    try:
        plan = read_plan(argv, name)
        print(ablate(plan, shlex.join([*name.split(), *argv])), end="")
    except UsageError as error:
        return print_end(name, error, 2)
    except Exception as error:
        return print_failure(name, error, "; the same command resumes")
    say(f"done: {plan.output}/ablation.md, and its plots and ablation.json beside it")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
