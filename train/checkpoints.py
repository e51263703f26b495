"""Checkpoints: whole or not at all, the last few kept, a damaged one passed over by name."""

import os
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from train import processes
from train.data import Position


def capture(
    step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> dict:
    """All that the next step depends on. Every process has to call it: each has its own position
    in the data and its own random numbers, while the weights are the same everywhere."""
    mine = {"position": asdict(position), "rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        mine["cuda_rng"] = torch.cuda.get_rng_state()
    return {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "processes": processes.gather(mine),
    }


def restore(
    state: dict, model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[int, Position]:
    """The reverse of `capture`; gives the steps done and where this process's data goes on."""
    mine = state["processes"][processes.rank()]
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(mine["rng"])
    if "cuda_rng" in mine and torch.cuda.is_available():
        torch.cuda.set_rng_state(mine["cuda_rng"])
    return state["step"], Position(**mine["position"])


def save_checkpoint(folder: Path, state: dict, *, keep: int) -> Path:
    """Writes `state` under its step's name, then removes all but the last `keep` checkpoints."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{state['step']:09d}.pt"
    aside = path.with_suffix(".tmp")
    with open(aside, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
    os.replace(aside, path)
    for old in sorted(folder.glob("step_*.pt"))[:-keep]:
        old.unlink()
    return path


def load_last_checkpoint(folder: Path) -> dict | None:
    """The newest checkpoint that can be read, or None when there is none."""
    for path in sorted(folder.glob("step_*.pt"), reverse=True):
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever its unpickler met
            print(f"passed over the damaged checkpoint {path}: {error!r:.100}", file=sys.stderr)
    return None
