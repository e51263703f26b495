"""python -m train.evaluate retrieval --model RUN/model --data FOLDER_OR_TARS: one JSON object."""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from train.errors import SettingsError
from train.flags import Parser, exit_status
from train.images import decode_image
from train.retrieval import retrieval_scores
from train.samples import read_samples
from train.shards import find_shards

LATER = ("zero_shot", "knn", "probe", "segmentation")


def main(arguments: list[str]) -> int:
    return exit_status(lambda: _run(arguments))


def _run(arguments: list[str]) -> int:
    parser = Parser(prog="python -m train.evaluate", description=__doc__, allow_abbrev=False)
    parser.add_argument("task", choices=("retrieval", *LATER))
    parser.add_argument("--model", required=True, type=Path, help="folder of a saved AlignModel")
    parser.add_argument("--data", required=True, help="folder, file or glob of .tar shards")
    parser.add_argument("--batch_size", type=int, default=64, help="pairs embedded at once")
    flags = parser.parse_args(arguments)
    if flags.task in LATER:
        raise SettingsError(f"{flags.task} is not there yet: only retrieval is")
    if flags.batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1; got {flags.batch_size}")
    if not (flags.model / "config.json").exists():
        raise SettingsError(f"no model in {flags.model}: name a run's model folder")
    result = evaluate_retrieval(flags.model, find_shards(flags.data), flags.batch_size)
    print(json.dumps(result))
    return 0


def evaluate_retrieval(model_folder: Path, shards: list[str], batch_size: int) -> dict:
    """Recalls of all pairs of the shards, each pair's image and text against all others."""
    images, texts, captions, skipped = embed_pairs(model_folder, shards, batch_size)
    result = {"task": "retrieval", "unit": "percent"}
    return result | retrieval_scores(images, texts, captions) | {"skipped": skipped}


def embed_pairs(
    model_folder: Path, shards: list[str], batch_size: int
) -> tuple[np.ndarray, np.ndarray, list[str], int]:
    """float32[n, d] of images, float32[n, d] of texts, the n texts, and how many were skipped.

    The images and texts go through the saved AlignProcessor and AlignModel, as any user's would.
    """
    import torch

    from train.pretrained import read_pretrained

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, processor = read_pretrained(str(model_folder))
    model.to(device).eval()
    max_tokens = processor.tokenizer.model_max_length
    images, texts, captions, skipped = [], [], [], [0]
    pairs = _decodable(shards, skipped)
    while batch := list(islice(pairs, batch_size)):
        pictures, batch_captions = zip(*batch, strict=True)
        inputs = processor(
            images=list(pictures),
            text=list(batch_captions),
            padding=True,
            truncation=True,
            max_length=max_tokens,
            return_tensors="pt",
        ).to(device)
        with torch.inference_mode():
            outputs = model(**inputs)
        images.append(outputs.image_embeds.float().cpu().numpy())
        texts.append(outputs.text_embeds.float().cpu().numpy())
        captions += batch_captions
        if sys.stderr.isatty():
            print(f"\r{len(captions)} pairs", end="", file=sys.stderr)
    if not captions:
        raise SettingsError(f"no pair with a readable image in {len(shards)} shards")
    return np.concatenate(images), np.concatenate(texts), captions, skipped[0]


def _decodable(shards: list[str], skipped: list[int]) -> Iterator[tuple[Image.Image, str]]:
    """Pairs whose image opens; counts the others in skipped[0]."""
    for _, data, text in read_samples(shards):
        try:
            yield decode_image(data), text
        except Exception:  # Pillow raises many kinds; one bad image is no reason to stop
            skipped[0] += 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
