"""Who is told how a run goes: TensorBoard, and whatever a user names."""

import dataclasses
import importlib
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alignset.train.errors import SettingsError
from alignset.train.settings import RunSettings

SHOWN_SAMPLES = 16


class Tracker(Protocol):
    """The object that `--trackers=module:name` names: called with these arguments, it gives such an
    object.

    Only the first process of a run has trackers. One that raises is told of and left out from then
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
