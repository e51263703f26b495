"""Progress of a run: a bar (or plain lines) on stderr, metrics.jsonl, and trackers, which are
TensorBoard and whatever a user names."""

import dataclasses
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from alignset.train.data.batches import Inputs, check_skipped
from alignset.train.data.order import Position
from alignset.train.errors import Diverged, SettingsError
from alignset.train.model.dual_encoder import DualEncoder
from alignset.train.optim.optimizer import ADVICE, GuardedStep
from alignset.train.runs import processes
from alignset.train.settings import RunSettings, Settings

SHOWN_SAMPLES = 16
_LONG_WAIT = 0.1  # share of the time for data from which on the bar says it
T = TypeVar("T")


class Tracker(Protocol):
    """The object that `--trackers=module:name` names: called with these arguments, it gives such an
    object.

    Only the first process of a run has trackers. One that raises is named and left out from then
    on: what watches a run must not end it.
    """

    def __init__(self, run: Path, settings: dict[str, Any], first_step: int):
        """`run` is the run's folder; a resumed run starts anew at `first_step`."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """The numbers of one report: a line of metrics.jsonl."""

    def samples(self, step: int, pixels: np.ndarray, texts: list[str]) -> None:
        """uint8[n, h, w, 3] and n texts: the first pairs of a batch, as they are trained on."""

    def close(self) -> None: ...


class TensorBoard:
    """Event files in RUN/tensorboard: `tensorboard --logdir RUN` shows them.

    Written and flushed at once, not by tensorboardX's SummaryWriter: on a full disk its thread dies
    where nobody sees it, and ten events later the run would wait for that thread for ever.
    """

    def __init__(self, run: Path, settings: dict[str, Any], first_step: int):
        from tensorboardX import summary  # here, because most of train/ needs none of it
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._summary, self._event = summary, Event
        folder = run / "tensorboard"
        folder.mkdir(exist_ok=True)
        self._events = EventsWriter(str(folder / "events"))
        # What a killed run wrote after its last checkpoint is written again: purged.
        self._write(first_step, session_log=SessionLog(status=SessionLog.START))
        if first_step == 1:
            lines = [f"    {name} = {value!r}" for name, value in settings.items()]
            self._write(0, summary=summary.text("settings", "\n".join(lines)))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        scalars = self._summary.Summary()
        for name, value in values.items():
            scalars.MergeFrom(self._summary.scalar(name, value))
        self._write(step, summary=scalars)

    def samples(self, step: int, pixels: np.ndarray, texts: list[str]) -> None:
        images = self._summary.image("samples/images", pixels, dataformats="NHWC")
        # Indented: Markdown shows it as it is, numbered in the images' order.
        lines = [f"    {number}. {' '.join(text.split())}" for number, text in enumerate(texts, 1)]
        images.MergeFrom(self._summary.text("samples/texts", "\n".join(lines)))
        self._write(step, summary=images)

    def close(self) -> None:
        self._events.close()

    def _write(self, step: int, **what: object) -> None:
        self._events.write_event(self._event(wall_time=time.time(), step=step, **what))
        self._events.flush()


def open_trackers(names: str, run: Path, settings: RunSettings, first_step: int) -> list[Tracker]:
    """The trackers that `names` names, ready to be told.

    Args:
      names: tensorboard or module:name, comma-separated.

    Raises:
      SettingsError: one of them can't be imported or made.
    """
    trackers: list[Tracker] = []
    for name in filter(None, names.split(",")):
        module, _, attribute = name.partition(":")
        try:
            make = getattr(importlib.import_module(module), attribute) if attribute else TensorBoard
            trackers.append(make(run, dataclasses.asdict(settings), first_step))
        except Exception as error:  # whatever a user's own module raises
            raise SettingsError(
                f"the tracker {name!r} can't be used ({error!r:.200}): name it as tensorboard or "
                "module:name, or start without it by --trackers="
            ) from error
    return trackers


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
        self._waited_s = 0.0  # for data, since the last report
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
        data_wait = self._waited_s / max(now - self._since, 1e-9)
        self._since, self._steps_since, self._waited_s = now, 0, 0.0
        if self.quiet:
            return
        numbers |= further | {
            "samples_per_second": round(self.batch_size / step_s, 1),
            "samples_per_second_per_device": round(self.batch_size / step_s / processes.count(), 1),
            "step_seconds": round(step_s, 4),
            "data_wait": round(min(1.0, data_wait), 3),  # share of the time
        }
        self._report_text = " ".join(
            form.format(numbers[name]) for name, form in _SHOWN.items() if name in numbers
        )
        if data_wait >= _LONG_WAIT:
            self._report_text += f", {data_wait:.0%} of the time waiting for data"
        self.bar.set_postfix_str(self._report_text + self._validation_text)
        if self.bar.disable:
            remaining = timedelta(seconds=round((self.steps - step) * step_s))
            self.say(f"step {step}/{self.steps} {self._report_text} {remaining} left")
        self._write(step, numbers)

    def time_waits(self, items: Iterator[T]) -> Iterator[T]:
        """The items, with the time that the caller waits for each in `data_wait`."""
        begun_s = time.perf_counter()
        for item in items:
            self._waited_s += time.perf_counter() - begun_s
            yield item
            begun_s = time.perf_counter()

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


class Profile:
    """Writes a trace of some steps, as far as the run has them, which chrome://tracing and
    ui.perfetto.dev show.

    Args:
      steps: the first, from 2 on, and the last, as in 10:20; empty: there is none.
    """

    def __init__(self, steps: str, path: Path):
        self._path = path
        self._first, self._last = map(int, steps.split(":")) if steps else (0, 0)
        self._profiler: torch.profiler.profile | None = None

    def step(self, step: int) -> None:
        """Behind each step."""
        if step >= self._last:
            self.close()
        elif step >= self._first - 1 and not self._profiler:
            self._profiler = torch.profiler.profile()
            self._profiler.start()

    def close(self) -> None:
        """Behind the last step of the run."""
        if self._profiler:
            self._profiler.stop()
            self._profiler.export_chrome_trace(str(self._path))
            self._profiler = None


def measure(
    step: int, output: StepOutput, model: DualEncoder, guard: GuardedStep, settings: Settings
) -> dict[str, float]:
    """How a step went. All processes have to call it: loss, accuracy and what was skipped are of
    all of them.

    Args:
      output: of the step.
      guard: that has taken it, or left it out: numbers that are not finite are then missing here.

    Raises:
      Diverged: too many steps were left out, or the temperature is the least it may be.
      TrainingError: too many samples were skipped.
    """
    means = {
        "loss": processes.mean(output.loss),
        "accuracy": processes.mean(batch_accuracy(output.images, output.texts)),
        "temperature": model.temperature.item(),
    }
    numbers = guard.measured(step, means)
    if numbers["temperature"] <= model.min_temperature * (1 + 1e-6):  # as a float32's logarithm
        raise Diverged(
            f"the temperature is {numbers['temperature']:.2g} at step {step}, the least it may "
            f"be, where little more is learned: {ADVICE}; or more --label_smoothing, if the pairs "
            "are few and learned by heart; or a lower --min_temperature"
        )
    return numbers | _skips(output.inputs.position, settings)


def _skips(position: Position, settings: Settings) -> dict[str, int]:
    """How many samples all processes have skipped, and for which reasons, as metrics have it.

    Raises:
      TrainingError: too many, on all processes alike.
    """
    of_all = processes.gather(position)
    samples = sum(of_one.samples for of_one in of_all)
    reasons = {why: sum(of_one.reasons[why] for of_one in of_all) for why in position.reasons}
    check_skipped(reasons, samples, settings)
    return Position(reasons=reasons).counts()


@torch.no_grad()
def batch_accuracy(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
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
