"""Who is told how a run goes: TensorBoard, and whatever a user names."""

import dataclasses
import importlib
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alignset.train.errors import SettingsError
from alignset.train.runs.flags import AnySettings

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


_NAMES = {
    "tensorboard": "alignset.train.runs.trackers:TensorBoard",
    "wandb": "alignset.train.runs.trackers:Wandb",
    "mlflow": "alignset.train.runs.trackers:MLflow",
}


def open_trackers(names: str, run: Path, settings: AnySettings, first_step: int) -> list[Tracker]:
    """The trackers that `names` names, ready to be told.

    Args:
      names: tensorboard, wandb, mlflow or module:name, comma-separated.

    Raises:
      SettingsError: one of them can't be imported or made.
    """
    trackers: list[Tracker] = []
    for name in filter(None, names.split(",")):
        module, _, attribute = _NAMES.get(name, name).partition(":")
        try:
            make = getattr(importlib.import_module(module), attribute)
            trackers.append(make(run, dataclasses.asdict(settings), first_step))
        except Exception as error:  # whatever a user's own module raises
            raise SettingsError(
                f"the tracker {name!r} can't be used ({error!r:.200}): name it as tensorboard, "
                "wandb, mlflow or module:name, or start without it by --trackers="
            ) from error
    return trackers


class Wandb:
    """Weights & Biases. `RUN/wandb_run_id` names the run that is gone on with."""

    def __init__(self, run: Path, settings: dict[str, Any], first_step: int):
        import wandb

        self._image, id_file = wandb.Image, run / "wandb_run_id"
        self._run = wandb.init(
            project=settings.get("wandb_project", "alignset"),
            entity=settings.get("wandb_entity") or None,
            name=settings.get("wandb_name") or run.name,
            tags=[tag.strip() for tag in settings.get("wandb_tags", "").split(",") if tag.strip()],
            id=id_file.read_text() if id_file.exists() else None,
            dir=str(run),
            resume="allow",
            config=settings,
        )
        id_file.write_text(self._run.id)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._run.log(values, step=step)

    def samples(self, step: int, pixels: np.ndarray, texts: list[str]) -> None:
        images = [self._image(p, caption=t) for p, t in zip(pixels, texts, strict=True)]
        self._run.log({"samples": images}, step=step)

    def close(self) -> None:
        self._run.finish()


class MLflow:
    """MLflow, at MLFLOW_TRACKING_URI. `RUN/mlflow_run_id` names the run that is gone on with."""

    def __init__(self, run: Path, settings: dict[str, Any], first_step: int):
        import mlflow

        self._mlflow, id_file = mlflow, run / "mlflow_run_id"
        mlflow.set_experiment("alignset")
        if id_file.exists():
            mlflow.start_run(run_id=id_file.read_text())
            return
        id_file.write_text(mlflow.start_run(run_name=run.name).info.run_id)
        mlflow.log_params(settings)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._mlflow.log_metrics(values, step=step)

    def samples(self, step: int, pixels: np.ndarray, texts: list[str]) -> None:
        for number, image in enumerate(pixels):
            self._mlflow.log_image(image, f"samples/{step:09d}_{number:02d}.png")
        self._mlflow.log_text("\n".join(texts), f"samples/{step:09d}.txt")

    def close(self) -> None:
        self._mlflow.end_run()
