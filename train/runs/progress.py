"""Progress of a run: a bar (or plain lines) on stderr, metrics.jsonl, trackers."""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from alignset.train.data.inputs import Inputs
from alignset.train.errors import Diverged
from alignset.train.model.dual_encoder import DualEncoder
from alignset.train.optim.guarded_step import ADVICE, GuardedStep
from alignset.train.runs import processes
from alignset.train.runs.trackers import SHOWN_SAMPLES, Tracker, open_trackers
from alignset.train.settings import RunSettings

_SHOWN = {
    "loss": "loss {:.3f}",
    "accuracy": "accuracy {:.1%}",
    "temperature": "temperature {:.4f}",
    "gradient_norm": "gradient norm {:.3g}",
    "samples_per_second": "{:.0f} samples/s",
}


@dataclass(frozen=True)
class StepOutput:
    """Results of a step, without gradients."""

    loss: torch.Tensor  # float[]: over this process's rows; the mean over processes is the batch's
    images: torch.Tensor  # float[b, d]: this process's pairs
    texts: torch.Tensor  # float[b, d]
    inputs: Inputs  # the last micro-batch


class Progress:
    """Counts steps and reports some. A bar on a terminal, else a line for each report.

    Args:
      batch_size: samples of a step.
      start, steps: how many steps are done, and how many there will be.
      quiet: only counts: this is not the first process.
    """

    def __init__(
        self,
        run: Path,
        settings: RunSettings,
        *,
        batch_size: int,
        start: int,
        steps: int,
        quiet: bool,
    ):
        self.metrics, self.settings, self.quiet = run / "metrics.jsonl", settings, quiet
        self.batch_size, self.steps = batch_size, steps
        self.trackers: list[Tracker] = []
        if not quiet:
            self.trackers = open_trackers(settings.trackers, run, settings, start + 1)
        is_hidden = quiet or not sys.stderr.isatty()
        self.bar = tqdm(initial=start, total=steps, unit="step", disable=is_hidden)
        self._first, self._since, self._steps_since = start + 1, time.perf_counter(), 0
        self._report_text = self._validation_text = ""  # the last of each

    def step(
        self,
        step: int,
        measure: Callable[[], dict[str, float]],
        further: dict[str, float],
        *,
        check: bool,
    ) -> None:
        """Counts a step, and reports it where the settings say so.

        Args:
          measure: gives the numbers that cost something; raises Diverged where they are worth
            nothing. All processes call it at the same steps.
          further: other numbers of the report.
          check: measure even if there is nothing to report.
        """
        self.bar.update()
        self._steps_since += 1
        reports = step == self.steps or step % self.settings.log_every == 0
        numbers = measure() if reports or check else {}
        if not reports:
            return
        now = time.perf_counter()
        step_s = (now - self._since) / self._steps_since
        self._since, self._steps_since = now, 0
        if self.quiet:
            return
        numbers |= further | {"samples_per_second": round(self.batch_size / step_s, 1)}
        self._report_text = " ".join(
            form.format(numbers[name]) for name, form in _SHOWN.items() if name in numbers
        )
        self.bar.set_postfix_str(self._report_text + self._validation_text)
        if self.bar.disable:
            remaining = timedelta(seconds=round((self.steps - step) * step_s))
            self.say(f"step {step}/{self.steps} {self._report_text} {remaining} left")
        self._write(step, numbers)

    def show_samples(self, step: int, pixels: np.ndarray, texts: list[str]) -> None:
        """Shows the trackers the first of uint8[n, h, w, 3] and n texts, at some of the steps."""
        every = self.settings.samples_every
        if every and (step == self._first or step % every == 0):
            pixels, texts = pixels[:SHOWN_SAMPLES], texts[:SHOWN_SAMPLES]
            self._call_trackers(lambda tracker: tracker.samples(step, pixels, texts))

    def show_validation(
        self, step: int, numbers: dict[str, float], *, seconds: float, best: bool
    ) -> None:
        """Shows, writes and tells the trackers what a validation gave, by names that begin with
        "validation/".

        Args:
          seconds: duration of the validation, which is not part of the steps' time.
          best: whether it is the best so far.
        """
        self._since += seconds
        image, text = (numbers[f"validation/{w}_R1"] for w in ("image_to_text", "text_to_image"))
        line = f"held-out R@1 {image:.1f} / {text:.1f} %"
        top1 = numbers.get("validation/zero_shot_top1")
        zero_shot = "" if top1 is None else f" zero-shot {top1:.1f} %"
        self._validation_text = f" {line}{zero_shot}"
        self.bar.set_postfix_str(self._report_text + self._validation_text)
        if self.bar.disable:
            loss, n = numbers["validation/loss"], numbers["validation/n"]
            self.say(
                f"step {step}/{self.steps} {line} (image to text / text to image, {n:,} images)"
                f"{zero_shot} loss {loss:.3f} in {seconds:.1f} s"
                f"{', the best so far' if best else ''}"
            )
        self._write(step, numbers | {"validation/seconds": round(seconds, 3)})

    def _write(self, step: int, numbers: dict[str, float]) -> None:
        with open(self.metrics, "a") as file:
            file.write(json.dumps({"step": step} | numbers) + "\n")
        self._call_trackers(lambda tracker: tracker.scalars(step, numbers))

    def say(self, line: str) -> None:
        if not self.quiet:
            tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        self._call_trackers(lambda tracker: tracker.close())
        self.bar.close()

    def _call_trackers(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                call(tracker)
            except Exception as error:  # a full disk, a lost network: no reason to stop training
                self.trackers.remove(tracker)
                self.say(f"the tracker {type(tracker).__name__} is left out: {error!r:.200}")


def measure(
    step: int, output: StepOutput, model: DualEncoder, guard: GuardedStep
) -> dict[str, float]:
    """How a step went. All processes have to call it: loss and accuracy are of all their rows.

    Args:
      output: of the step.
      guard: that has taken it, or left it out: numbers that are not finite are then missing here.

    Raises:
      Diverged: too many steps were left out, or the temperature is the least it may be.
    """
    guard.check(step)
    numbers = {
        "loss": processes.mean(output.loss),
        "accuracy": processes.mean(in_batch_accuracy(output.images, output.texts)),
        "temperature": model.temperature.item(),
        "gradient_norm": guard.norm.item(),
    }
    if guard.left_out:
        for name in ("loss", "gradient_norm"):
            if not math.isfinite(numbers[name]):
                del numbers[name]
    check_finite(step, numbers, ADVICE)
    if numbers["temperature"] <= model.min_temperature * (1 + 1e-6):  # as a float32's logarithm
        raise Diverged(
            f"the temperature is {numbers['temperature']:.2g} at step {step}, the least it may "
            f"be, where little more is learned: {ADVICE}; or more --label_smoothing, if the pairs "
            "are few and learned by heart; or a lower --min_temperature"
        )
    if skipped := guard.skipped:
        numbers["skipped_steps"] = skipped
    return numbers


def gradient_norm(model: torch.nn.Module) -> float:
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients).item()


def check_finite(step: int, numbers: dict[str, float], advice: str) -> None:
    """Raises Diverged, on all processes at the same step: the numbers are the same there."""
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise Diverged(f"the {name.replace('_', ' ')} is {value} at step {step}: {advice}")


@torch.no_grad()
def in_batch_accuracy(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """float[]: the share of float[b, d] rows that lie nearest to their own pair's other half.

    The mean of both directions, among the candidates of the global batch. 512 rows at a time: of
    16,384 the whole matrix would take 1 GiB.
    """
    b = len(images)
    target = torch.arange(b, device=images.device) + b * processes.rank()  # int64[b]
    right = torch.zeros((), device=images.device)
    for rows, candidates in ((images, texts), (texts, images)):
        if processes.is_grouped():
            candidates = processes.gather_rows(candidates)  # [b * processes, d]
        for part, pairs in zip(torch.split(rows, 512), torch.split(target, 512), strict=True):
            right += ((part @ candidates.T).argmax(dim=1) == pairs).sum()
    return right / (2 * b)
