"""alignset export RUNS/a --format=onnx --tower=both --output=FOLDER

Writes a model's towers as files of their own, and export.json beside them:
their inputs, how images and texts are prepared, and how far they are from the
model's embeddings.
"""

import contextlib
import hashlib
import io
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alignset.called import give
from alignset.extras import missing_extra
from alignset.signals import run_main
from alignset.train.errors import SettingsError, TrainingError
from alignset.train.runs.flags import Parser, exit_status, local_folder
from alignset.version import version

if TYPE_CHECKING:
    from torch import Tensor

NAME = "python -m alignset.train.export"
SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors", "torchscript": ".pt"}
TOWERS = ("image", "text")
DOCUMENT = "export.json"  # by it, train/model/pretrained.py knows an export
MOST_APART = 1e-4  # of a number of an embedding, in the file and in the model
_INPUTS = {"image": ("pixel_values",), "text": ("input_ids", "attention_mask")}
_STOPPED = "stopped; nothing was written"

Computed = Callable[..., "Tensor"]


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name), stop_message=_STOPPED)


def _run(arguments: list[str], name: str) -> int:
    parser = Parser(
        prog=name,
        description=str(__doc__).replace("alignset export", name),
        usage="%(prog)s MODEL --output=FOLDER [flags]",
    )
    add = parser.add_argument
    add("model", help="a run's folder, a saved AlignModel, or a published one")
    add("--output", "--out", required=True, dest="out", type=local_folder, metavar="FOLDER")
    add("--format", default="onnx", choices=SUFFIXES, help="of the files (onnx)")
    add("--tower", default="both", choices=(*TOWERS, "both"), help="which are written (both)")
    flags = parser.parse_args(arguments)
    if flags.format == "onnx" and (missing := missing_extra("export", "--format=onnx")):
        raise SettingsError(missing)
    out: Path = flags.out
    is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not is_free and not (out / DOCUMENT).exists():
        raise SettingsError(f"--output={out} holds something else than an export: name another")
    document = export_towers(flags.model, out, flags.format, flags.tower)
    give(document, json.dumps(document))
    return 0


def export_towers(name: str, out: Path, format_: str, tower: str = "both") -> dict[str, Any]:
    """Writes the towers of an AlignModel, whole or not at all, and returns export.json. Other files
    in the folder stay.

    Raises:
      SettingsError: there is no such model. TrainingError: a file computes something else.
    """
    from alignset.train.data.whole_files import save_folder
    from alignset.train.model.pretrained import read_pretrained

    run = os.path.join(name, "model")
    # Any: transformers types a model's configs as what they may be before it is made.
    pair: Any = read_pretrained(run if os.path.isdir(run) else name)
    model, processor = pair
    model.eval()
    document: dict[str, Any] = {
        "alignset": version(),
        "model": name,
        "format": format_,
        "width": model.config.projection_dim,
        "temperature": model.temperature.item(),
        "towers": {},
    }

    def save(folder: Path) -> None:
        folder.mkdir(parents=True)
        for each in TOWERS if tower == "both" else (tower,):
            document["towers"][each] = _save_tower(model, processor, folder, each, format_)
        if "text" in document["towers"]:
            processor.tokenizer.save_pretrained(folder / "tokenizer")
        (folder / DOCUMENT).write_text(json.dumps(document, indent=2) + "\n")

    files = [f"{each}{suffix}" for each in TOWERS for suffix in SUFFIXES.values()]
    save_folder(out, save, replaced=(*files, "tokenizer", DOCUMENT))
    return document


def _save_tower(
    model: Any, processor: Any, folder: Path, tower: str, format_: str
) -> dict[str, Any]:
    """Writes one tower and compares it with the model; what export.json says of it."""
    path, module = folder / f"{tower}{SUFFIXES[format_]}", _tower_of(model, tower)
    examples = [_examples(model, tower, *size) for size in ((2, 7), (3, 12), (1, 3))]
    run_file = _WRITERS[format_](module, tower, examples[0], path)  # it is traced with the first
    apart = 0.0
    for inputs in examples:
        apart = max(apart, (run_file(*inputs) - module(*inputs)).abs().max().item())
    if not apart <= MOST_APART:
        raise TrainingError(
            f"{path.name} computes embeddings that are {apart:.2g} from the model's, more than "
            f"{MOST_APART:g}: nothing was written; try another --format"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {
        "file": path.name,
        "sha256": digest,
        **(_images(processor, model) if tower == "image" else _texts(processor, model)),
        "output": {"name": "embeddings", "shape": ["n", model.config.projection_dim], "norm": 1},
        "largest_difference": apart,
    }


def _images(processor: Any, model: Any) -> dict[str, Any]:
    side, images = model.config.vision_config.image_size, processor.image_processor
    crop = dict(images.crop_size) if images.do_center_crop else None
    height, width = (crop or images.size)["height"], (crop or images.size)["width"]
    return {
        "inputs": {"pixel_values": {"dtype": "float32", "shape": ["n", 3, height, width]}},
        "preprocessing": {
            "colours": "RGB, upright as EXIF says, transparent parts over white",
            "resize": dict(images.size),
            "interpolation": {2: "bilinear", 3: "bicubic", 0: "nearest"}.get(int(images.resample)),
            "centre_crop": crop,
            "scale": images.rescale_factor,
            "then_minus_1": bool(images.rescale_offset),
            "mean": list(images.image_mean),
            "std": list(images.image_std),
            "trained_at_px": side,
        },
    }


def _texts(processor: Any, model: Any) -> dict[str, Any]:
    tokenizer = processor.tokenizer
    max_tokens = min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings)
    shape = {"dtype": "int64", "shape": ["n", "tokens"]}
    return {
        "inputs": {name: shape for name in _INPUTS["text"]},
        "preprocessing": {
            "tokenizer": "tokenizer/tokenizer.json",
            "max_tokens": max_tokens,
            "pad_token": tokenizer.pad_token_id,
            "attention_mask": "1 for tokens of the text, 0 for padding behind them",
        },
    }


def _tower_of(model: Any, tower: str) -> Any:
    """A module that computes one tower's embeddings, L2-normalised."""
    import torch

    class Tower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                features = getattr(model, f"get_{tower}_features")(*inputs)
                return torch.nn.functional.normalize(features.pooler_output, dim=-1)

    return Tower()


def _examples(model: Any, tower: str, rows: int, tokens: int) -> tuple["Tensor", ...]:
    """Inputs at random, always the same; the last text is padded."""
    import torch

    random = torch.Generator().manual_seed(rows)
    if tower == "image":
        side = model.config.vision_config.image_size
        return (torch.rand(rows, 3, side, side, generator=random) * 2 - 1,)
    vocabulary = model.config.text_config.vocab_size
    ids = torch.randint(vocabulary, (rows, tokens), generator=random)
    mask = torch.ones_like(ids)
    mask[-1, tokens // 2 + 1 :] = 0
    return ids, mask


def _write_onnx(module: Any, tower: str, inputs: Any, path: Path) -> Computed:
    import onnxruntime
    import torch

    names = _INPUTS[tower]
    axes = {0: "n"} if len(names) == 1 else {0: "n", 1: "tokens"}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            str(path),
            input_names=names,
            output_names=("embeddings",),
            dynamic_shapes=((axes,) * len(names),),
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda *given: torch.from_numpy(
        session.run(None, {n: g.numpy() for n, g in zip(names, given, strict=True)})[0]
    )


def _write_torchscript(module: Any, tower: str, inputs: Any, path: Path) -> Computed:
    import torch

    jit: Any = torch.jit  # it has no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jit.trace(module, inputs, strict=False).save(str(path))
        script: Computed = jit.load(str(path))
    return script


def _write_safetensors(module: Any, tower: str, inputs: Any, path: Path) -> Computed:
    """The weights alone, by the names that they have in an AlignModel."""
    from safetensors.torch import load_file, save_file
    from transformers import AlignModel

    model = module.model
    parts = ("vision_model.",) if tower == "image" else ("text_model.", "text_projection.")
    save_file({k: v for k, v in model.state_dict().items() if k.startswith(parts)}, path)
    again: Any = AlignModel(model.config)
    again.eval()
    again.load_state_dict(load_file(path), strict=False)
    loaded: Computed = _tower_of(again, tower)
    return loaded


_WRITERS = {
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
    "safetensors": _write_safetensors,
}

if __name__ == "__main__":
    sys.exit(run_main(main, NAME))
