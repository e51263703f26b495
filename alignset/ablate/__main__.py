"""alignset ablate --input=PAIRS --output=FOLDER --eval=DATA [flags]"""

from __future__ import annotations

import json
import multiprocessing
import os
import shlex
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from alignset.ablate.plan import Plan, filtered_inputs, open_folder, read_plan
from alignset.ablate.points import Point, begin_job, check_captioned, measure_point, threads_of_jobs
from alignset.ablate.results import Row, cell_of, write_results
from alignset.ablate.variants import ALL, RANDOM, Bools, Pool, Variant, curate
from alignset.pipeline.command_line import print_end, print_failure
from alignset.pipeline.errors import FailedRunError, UsageError
from alignset.pipeline.shown_texts import counted
from alignset.signals import run_main

NAME = "python -m alignset.ablate"
_PROBE_STEPS = 16
_MOST_JOBS = 16


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def ablate(plan: Plan, command: str) -> str:
    """Does what is not done yet, and writes the results.

    Returns:
      the tables.

    Raises:
      UsageError: there is too little to train on. FailedRunError: a run failed.
    """
    for name, data in plan.evals.items():
        check_captioned(name, data)
    open_folder(plan)
    for folder, reasons in filtered_inputs(str(plan.settings["input"])).items():
        say(
            f"{folder} is a dataset whose rules have dropped pairs already ({', '.join(reasons)}): "
            "they cannot be compared; pass the pairs that it was made of, or a dataset made with "
            "--score_only"
        )
    say("1 of 3: the pool: everything is fetched and measured once, and no rule drops a pair")
    curate(plan.pool_flags, None, plan.out / "pool/manifest.json", plan.beam)
    pool = Pool(plan.out)
    say(f"2 of 3: what each of {len(plan.variants)} variants keeps of {len(pool.pairs):,} pairs")
    counts, same_as = _count(plan, pool)
    points = _points(plan, same_as)
    pending = [point for point in points if not point.file.exists()]
    samples = sum(point.budget for point in pending)
    say(f"3 of 3: {counted(len(pending), 'training')}, {samples:,} samples seen in all")
    if pending:
        _train(plan, pool, pending)
    return _write(plan, points, counts, same_as, command)


def _count(plan: Plan, pool: Pool) -> tuple[dict[str, int], dict[str, str]]:
    """How many pairs each variant keeps, and the variant that keeps the same ones before it."""
    counts: dict[str, int] = {}
    same_as: dict[str, str] = {}
    first: dict[bytes, str] = {}
    for variant in sorted(plan.variants, key=lambda variant: variant.name != ALL):
        mask = pool.mask(variant)
        counts[variant.name] = count = int(mask.sum())
        by = first.setdefault(mask.tobytes(), variant.name)
        if by != variant.name and (variant.name != RANDOM or mask.all()):
            same_as[variant.name] = by
        say(f"  {variant.name}: {count:,}{f', as {by}' if by != variant.name else ''}")
        if count < plan.training.batch_size:
            raise UsageError(
                f"{variant.name} keeps {counted(count, 'pair')}, fewer than a batch of "
                f'{plan.training.batch_size}: pass more --input, or --train="--batch_size=…"'
            )
    return counts, same_as


def _points(plan: Plan, same_as: Mapping[str, str]) -> list[Point]:
    """All trainings, variant by variant."""
    points = []
    for variant in plan.variants:
        if variant.name in same_as:
            continue
        for seed in range(plan.seeds):
            suffix = f"-{seed}" if variant.name == RANDOM else ""
            shards = plan.out / f"variants/{variant.name}{suffix}-shards"
            for budget in plan.budgets:
                steps = -(-budget // plan.training.batch_size)
                of = (plan.out, variant.name, budget, seed, shards, steps, plan.train, plan.evals)
                points.append(Point(*of))
    return points


def _train(plan: Plan, pool: Pool, points: list[Point]) -> None:
    jobs = min(plan.jobs or _usual_jobs(), len(points))
    threads_of_jobs(jobs)
    variants = {variant.name: variant for variant in plan.variants}

    def write(point: Point) -> None:
        mask: Bools = pool.mask(variants[point.variant], point.seed)
        pool.write_shards(mask, point.shards, plan.training.resize_px)

    spawn = multiprocessing.get_context("spawn")
    logs = plan.out / "logs"
    with ProcessPoolExecutor(jobs, spawn, begin_job, (logs, os.getpid())) as executor:
        try:
            if len(points) > 2 * jobs:
                takes = _probe(executor, points[0], jobs, write)
                total = timedelta(seconds=round(sum(map(takes, points)) / jobs))
                say(f"  about {total} with {counted(jobs, 'process', 'processes')}")
            _train_all(executor, points, jobs, write)
        except BrokenProcessPool as error:
            raise FailedRunError(
                f"a training was killed, perhaps for want of memory; {logs} has what it said. "
                "Pass a lower --jobs"
            ) from error
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _probe(
    executor: ProcessPoolExecutor, point: Point, jobs: int, write: Callable[[Point], None]
) -> Callable[[Point], float]:
    """Trains a few steps in each process; returns how long a training takes, in seconds."""
    write(point)
    probes = [
        replace(point, variant=f"probe{n}", steps=_PROBE_STEPS, budget=0) for n in range(jobs)
    ]
    results = [*executor.map(measure_point, probes)]
    for probe in probes:
        probe.file.unlink()
    batch = point.budget / point.steps
    step_s = batch / min(result["samples_per_s"] for result in results)
    before_s = max(result["wall_s"] for result in results) - _PROBE_STEPS * step_s
    say(f"  measured: {max(before_s, 0):.1f} s a training and {1000 * step_s:.0f} ms a step")
    return lambda other: max(before_s, 0) + other.steps * step_s


def _train_all(
    executor: ProcessPoolExecutor, points: list[Point], jobs: int, write: Callable[[Point], None]
) -> None:
    """Shards of a variant are there from its first training to its last."""
    pending = Counter(point.shards for point in points)
    written_shards: set[Path] = set()
    running: dict[Future[dict[str, Any]], Point] = {}
    start, done_count = time.monotonic(), 0

    def settle(most: int) -> None:
        nonlocal done_count
        while len(running) > most:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                point, result = running.pop(future), future.result()
                done_count += 1
                pending[point.shards] -= 1
                if not pending[point.shards]:
                    shutil.rmtree(point.shards)
                remaining = (time.monotonic() - start) / done_count * (len(points) - done_count)
                say(
                    f"  {done_count} of {len(points)}: {point.name}: {_recalls(result)}; "
                    f"{timedelta(seconds=round(remaining))} left"
                )

    for point in points:
        if point.shards not in written_shards:
            write(point)
            written_shards.add(point.shards)
        running[executor.submit(measure_point, point)] = point
        settle(2 * jobs - 1)
    settle(0)


def _recalls(result: Mapping[str, Any]) -> str:
    recalls = []
    for name, by_k in result["scores"].items():
        hits = by_k["1"]
        of_image = sum(hits["image"]) / len(hits["image"])
        of_text = sum(hits["text"]) / sum(hits["texts"])
        recalls.append(f"R@1 {50 * (of_image + of_text):.1f} % on {name}")
    return ", ".join(recalls)


def _usual_jobs() -> int:
    """One on a GPU, which a training fills; else one a core."""
    import torch

    return 1 if torch.cuda.is_available() else min(os.cpu_count() or 1, _MOST_JOBS)


def _write(
    plan: Plan,
    points: Iterable[Point],
    counts: Mapping[str, int],
    same_as: Mapping[str, str],
    command: str,
) -> str:
    k = str(plan.recall_at)
    results: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for point in points:
        results.setdefault((point.variant, point.budget), []).append(
            json.loads(point.file.read_text())
        )

    def row(variant: Variant, name: str) -> Row:
        by = same_as.get(variant.name, "")
        cells = {}
        for budget in plan.budgets:
            both = (results[by or variant.name, budget], results[ALL, budget])
            cells[budget] = cell_of(
                *([point["scores"][name][k] for point in each] for each in both)
            )
        return Row(variant, counts[variant.name], cells, by)

    rows = {name: [row(variant, name) for variant in plan.variants] for name in plan.evals}
    one = results[ALL, plan.budgets[0]][0]["scores"]
    settings = {
        **{"command": command, "seeds": plan.seeds, "measure": f"R@{k}"},
        **{"chance": {n: one[n][k]["chance"] for n in one}},
        **plan.settings,
    }
    return write_results(plan.out, rows, plan.budgets, settings)


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the command; returns 0 done, 1 failed, 2 wrong flags."""
    try:
        plan = read_plan(argv, name)
        print(ablate(plan, shlex.join([*name.split(), *argv])), end="")
    except UsageError as error:
        return print_end(name, error, 2)
    except FailedRunError as error:
        return print_end(name, f"{error} (the same command resumes)", 1)
    except Exception as error:
        return print_failure(name, error, "; the same command resumes")
    say(f"done: {plan.out}/ablation.md, and its plots and ablation.json beside it")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
