"""python -m train.evaluate retrieval --model RUN/model --data SHARDS

Prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from train.errors import SettingsError
from train.runs.flags import Parser, boolean, exit_status, stoppable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

NAME = "python -m train.evaluate"


def main(arguments: list[str], name: str = NAME) -> int:
    return exit_status(lambda: _run(arguments, name))


def stoppable_main(arguments: list[str], name: str = NAME) -> int:
    return stoppable(lambda: main(arguments, name))


def _run(arguments: list[str], name: str) -> int:
    parser = Parser(prog=name, description=str(__doc__).replace(NAME, name))
    parser.add_argument("task", choices=("retrieval",))
    parser.add_argument("--model", required=True, help="a saved AlignModel, or a published name")
    parser.add_argument("--data", required=True, help="shards, named as train's --shards has them")
    parser.add_argument(
        "--caption_lines",
        type=boolean,
        default=False,
        metavar="BOOL",
        help="each line of a text is a caption of its image, as in Flickr30K and MSCOCO",
    )
    parser.add_argument("--batch_size", type=int, default=64, help="pairs embedded at once")
    flags = parser.parse_args(arguments)
    if flags.batch_size < 1:
        raise SettingsError(f"batch_size must be at least 1; got {flags.batch_size}")
    # Only now: torch takes seconds, and a wrong flag should not.
    from train.data.find_shards import find_shards
    from train.data.samples import caption_lines, read_samples
    from train.evaluate.retrieval import retrieval_scores

    shards = find_shards(flags.data)
    samples, skipped = read_samples(shards), [0]
    identities: list[bytes] = []
    split = caption_lines if flags.caption_lines else lambda text: [text]
    pairs = ((image, split(text)) for image, text in _decodable(samples, identities, skipped))
    embedded = embed_pairs(flags.model, pairs, flags.batch_size)
    result = retrieval_scores(*embedded, identities=identities)
    print(json.dumps({"task": "retrieval", "unit": "percent", **result, "skipped": skipped[0]}))
    return 0


def embed_pairs(
    model_name: str, pairs: Iterator[tuple[Image.Image, list[str]]], batch_size: int
) -> tuple[np.ndarray, np.ndarray, list[list[str]]]:
    """float32[n, d] of images, float32[m, d] of all their m captions, and these by image.

    The images and texts go through the saved AlignProcessor and AlignModel, as any user's would.
    """
    import numpy as np
    import torch

    from train.model.pretrained import read_pretrained

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, processor = read_pretrained(model_name)
    model.to(device).eval()  # type: ignore[arg-type]  # transformers' decorator loses `self`
    max_tokens = min(
        processor.tokenizer.model_max_length, model.text_model.config.max_position_embeddings
    )
    images: list[np.ndarray] = []
    texts: list[np.ndarray] = []
    captions: list[list[str]] = []
    while batch := _next_batch(pairs, batch_size):
        pictures, batch_captions = zip(*batch, strict=True)
        inputs = processor(
            images=list(pictures),
            text=[caption for own in batch_captions for caption in own],
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
            print(f"\r{len(captions)} images", end="", file=sys.stderr)
    if not captions:
        raise SettingsError("no pair with a readable image in --data")
    return np.concatenate(images), np.concatenate(texts), captions


def _next_batch(
    pairs: Iterator[tuple[Image.Image, list[str]]], size: int
) -> list[tuple[Image.Image, list[str]]]:
    """So many pairs, or fewer where their images are large."""
    from train.data.images import MAX_PIXELS

    batch, pixels = [], 0
    for image, captions in islice(pairs, size):
        batch.append((image, captions))
        pixels += image.width * image.height
        if pixels > MAX_PIXELS:
            break
    return batch


def _decodable(
    samples: Iterator[tuple[str, bytes, str]], identities: list[bytes], skipped: list[int]
) -> Iterator[tuple[Image.Image, str]]:
    """Pairs whose image opens, its hash added to `identities`; counts the others in skipped[0]."""
    from train.data.images import decode_image

    for _, data, text in samples:
        try:
            image = decode_image(data)
        except Exception:  # Pillow raises many kinds; one bad image is no reason to stop
            skipped[0] += 1
            continue
        identities.append(hashlib.sha256(data).digest())
        yield image, text


if __name__ == "__main__":
    sys.exit(stoppable_main(sys.argv[1:]))
