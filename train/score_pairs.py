"""How well an image and its alt-text agree by a model, as a rule of `alignset curate`.

`--score_model=MODEL` adds it; in a file of rules it is
`MIN_SIMILARITY = alignset.train.score_pairs.similarity_rule("RUNS/a")`. Nothing large is imported
before pairs are scored.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from functools import lru_cache, partial
from platform import node
from threading import Lock
from typing import TYPE_CHECKING, Any

from alignset.extras import explain_missing_package
from alignset.train.errors import SettingsError
from alignset.transforms.rules.rule import Limit, Measure, Rows, RuleError, Stage

if TYPE_CHECKING:
    import numpy as np

    from alignset.train.model.embed import DualEmbedder

DIGITS = 4  # that a similarity is stored with
AXIS = "similarity"
_ONE_AT_A_TIME = Lock()  # several shards may be under way in a worker
_FOR_TIMING = 224  # px


def similarity_rule(model: str, digest: str = "") -> Limit:
    """The rule on the cosine of image and alt-text by a model.

    Args:
      model: a run of `alignset train`; a folder or name of an ALIGN, CLIP or SigLIP; or a model of
        open_clip.
      digest: of the model; where it is another on a worker, the run ends.
    """
    return Limit(
        name="min_similarity",
        default=-1.0,
        help="cosine of image and alt-text by --score_model, at least",
        range=(-1, 1),
        allows="from -1 to 1",
        keeps=">=",
        words="Similarity of image and text, at least",
        reason="dissimilar",
        step="similarity",
        means="image and alt-text are too different for the model",
        stage=Stage.PAIR,
        opened=-1.0,
        measure=Measure(
            axis=AXIS,
            label="Similarity of image and text",
            short="similarity",
            of=partial(similarities, model, digest),
            edges=[n / 20 for n in range(-19, 20)],
            least=-1.0,
        ),
    )


def similarities(model: str, digest: str, rows: Rows) -> np.ndarray:
    """float64[n]: the cosines of n images and texts, to `DIGITS` digits.

    On a CPU each image and each text goes through the model by itself, so a number depends on no
    other pair. On a GPU they go together, and may differ in the last digit.

    Raises:
      ValueError: a cosine is not finite. RuleError: there is no such model, or it is another here.
    """
    import numpy as np
    from PIL import Image

    with _ONE_AT_A_TIME:
        embedder = open_model(model)
        if digest and embedder.digest != digest:
            raise RuleError(f"{model} is another model on {node()} than where the run was started")
        parts = ((repr(pixels.shape).encode(), pixels.tobytes()) for pixels in rows["pixels"])
        names = [hashlib.sha256(shape + data).digest() for shape, data in parts]

        def embed(method: str, things: dict[Any, Any]) -> dict[Any, Any]:
            """The vector of each, by its name."""
            every = [*things.values()]
            batches = [every] if has_gpu() else [[thing] for thing in every]
            vectors = [vector for batch in batches for vector in getattr(embedder, method)(batch)]
            return dict(zip(things, vectors, strict=True))

        pixels_of = dict(zip(names, rows["pixels"], strict=True))
        images = embed("embed_images", {n: Image.fromarray(own) for n, own in pixels_of.items()})
        texts = embed("embed_texts", {text: text for text in rows["text"]})
        pairs = zip(names, rows["text"], strict=True)
        cosines = np.array([images[name] @ texts[text] for name, text in pairs], np.float64)
    if not np.isfinite(cosines).all():
        raise ValueError(f"{model} gives a similarity that is not a number")
    return cosines.round(DIGITS)


def has_gpu() -> bool:
    """Whether pairs are scored on one."""
    import torch

    return torch.cuda.is_available()


@lru_cache(maxsize=1)
def open_model(name: str) -> DualEmbedder:
    """A model, opened once a process.

    Raises:
      RuleError: there is no such model, or what it needs is not installed.
    """
    if not sys.stderr.isatty():  # transformers' bars, as of weights that are loaded, are not lines
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Torch imports it, though nothing is compiled here, and at the process's end it complains.
    hides = "triton" not in sys.modules
    if hides:
        sys.modules["triton"] = None  # type: ignore[assignment]
    try:
        from alignset.train.model.embed import open_embedder

        return open_embedder(name, fast=False)
    except ModuleNotFoundError as error:
        raise RuleError(explain_missing_package(error)) from error
    except SettingsError as error:
        raise RuleError(str(error)) from error
    finally:
        if hides:
            sys.modules.pop("triton", None)


def cpu_s_a_pair(model: str) -> float:
    """The cost of a similarity here, CPU-seconds, without the decode."""
    import numpy as np

    rows = Rows(
        pixels=[np.zeros((_FOR_TIMING, _FOR_TIMING, 3), np.uint8)], text=["a dog on a sofa"]
    )
    for _ in range(2):  # the first one allocates memory too
        begun_s = time.process_time()
        similarities(model, "", rows)
    return time.process_time() - begun_s


def rule_source(model: str) -> bytes:
    """A file of rules with the one of a model, which workers get.

    Raises:
      RuleError: there is no such model.
    """
    digest = open_model(model).digest
    return (
        "from alignset.train.score_pairs import similarity_rule\n\n"
        f"MIN_SIMILARITY = similarity_rule({model!r}, {digest!r})\n"
    ).encode()
