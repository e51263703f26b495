"""Trackers by name whose packages are imported only when they are asked for: wandb, mlflow."""

from pathlib import Path
from typing import Any

import numpy as np


class Wandb:
    """Weights & Biases. `RUN/wandb_run_id` names the run that is gone on with."""

    def __init__(self, run: Path, settings: dict[str, Any], first_step: int):
        import wandb

        self._image, started = wandb.Image, run / "wandb_run_id"
        self._run = wandb.init(
            project="alignset",
            name=run.name,
            id=started.read_text() if started.exists() else None,
            dir=str(run),
            resume="allow",
            config=settings,
        )
        started.write_text(self._run.id)

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

        self._mlflow, started = mlflow, run / "mlflow_run_id"
        mlflow.set_experiment("alignset")
        if started.exists():
            mlflow.start_run(run_id=started.read_text())
            return
        started.write_text(mlflow.start_run(run_name=run.name).info.run_id)
        mlflow.log_params(settings)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        self._mlflow.log_metrics(values, step=step)

    def samples(self, step: int, pixels: np.ndarray, texts: list[str]) -> None:
        for number, image in enumerate(pixels):
            self._mlflow.log_image(image, f"samples/{step:09d}_{number:02d}.png")
        self._mlflow.log_text("\n".join(texts), f"samples/{step:09d}.txt")

    def close(self) -> None:
        self._mlflow.end_run()
