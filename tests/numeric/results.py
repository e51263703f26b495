"""Results of every kind of arithmetic in the product, written to a file of arrays."""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image as PillowImage

from alignset.train.loss import contrastive_loss
from alignset.train.search.neighbours import Neighbours, Vectors, make_faiss_index
from alignset.transforms.decontamination.copy_descriptor import describe
from alignset.transforms.decontamination.copy_overlap import CopyMeasure
from alignset.transforms.decontamination.copy_planes import copy_planes
from alignset.transforms.decontamination.copy_vectors import vectors_of
from alignset.transforms.decontamination.embedding_model import (
    PACKAGED,
    describe_embedding_model,
    embed_each,
)
from alignset.transforms.decontamination.overlap_measure import Look
from alignset.transforms.decontamination.plane_alignment import Aligner, normalised_detail
from alignset.transforms.decontamination.plane_correlation import agreement_of, correlated_cells
from alignset.transforms.decontamination.plane_placement import place, placement_of
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.resize import Encoder, ResizeSettings
from alignset.transforms.images.thumbnail import thumbnail
from alignset.transforms.pairs.language import language_scores
from alignset.transforms.safety.classifier import open_classifier
from alignset.transforms.safety.model_files import OPEN_NSFW, usual_model
from alignset.transforms.safety.model_pixels import model_pixels
from tests.support.colour_search import ColourModel
from tests.support.grey_pictures import grey_photograph
from tests.support.picture_files import encoded
from tests.support.small_training import (
    small_inputs,
    small_model,
    small_tokenizer,
)

Results = Iterator[tuple[str, np.ndarray]]


def pictures(count: int) -> list[tuple[bytes, Image]]:
    """Their files differ with no processor: squares of noise, made of whole numbers."""
    rng, made = np.random.default_rng(1), []
    for number in range(count):
        small = PillowImage.fromarray(rng.integers(0, 256, (7, 9, 3), np.uint8))
        body = encoded(small.resize((330 + number, 250)), ("JPEG", "PNG", "WEBP")[number % 3])
        image = examine(body, keep_grey=True)
        assert isinstance(image, Image)
        made.append((body, image))
    return made


def of_training() -> Results:
    tokenizer = small_tokenizer()
    inputs = small_inputs(tokenizer)
    model = small_model(vocabulary_size=len(tokenizer))
    with torch.no_grad():
        for side, rows in zip(("image", "text"), model.eval()(inputs)[:2], strict=True):
            yield f"{side} embeddings", rows.numpy()
    torch.manual_seed(3)
    loss = contrastive_loss(*model.train()(inputs))
    loss.backward()
    yield "loss", np.array(loss.item())
    gradients = [p.grad.ravel() for p in model.parameters() if p.grad is not None]
    yield "gradients", torch.cat(gradients).numpy()
    yield "pixels of training", inputs.pixels.float().numpy()


def of_images() -> Results:
    files = pictures(6)
    for mode, form in (("center_crop", "jpg"), ("keep_ratio", "png"), ("border", "webp")):
        for exact in (False, True):
            encoder = Encoder(
                ResizeSettings(mode, 100, form, 6 if form == "png" else 90, exact_resize=exact)
            )
            bodies = b"".join(encoder(*file).body for file in files)
            yield f"resized {form} {exact}", np.frombuffer(bodies, np.uint8)
    thumbnails = b"".join(thumbnail(*file) for file in files)
    yield "thumbnails", np.frombuffer(thumbnails, np.uint8)
    yield "perceptual hashes", np.array([image.phash for _, image in files], np.uint64)
    for model in (OPEN_NSFW, usual_model(0.5)):
        shown = [model_pixels(*file, model.wanted) for file in files]
        yield "pixels of NSFW", np.stack(shown)
        classifier = open_classifier(model)
        yield f"NSFW probabilities, {model is OPEN_NSFW}", classifier.whole.probabilities(shown)
        yield f"NSFW scores, {model is OPEN_NSFW}", np.array(classifier.scores(shown))
    embedder = describe_embedding_model(PACKAGED)
    shown = [np.asarray(PillowImage.fromarray(s[:, :, :3]).resize((224, 224))) for s in shown]
    yield "overlap embeddings", embed_each(shown, embedder)


def of_copies(folder: Path) -> Results:
    measure = CopyMeasure()
    planes = np.stack([copy_planes(grey_photograph(seed)).whole for seed in range(40)])
    yield "copy planes", planes
    half = [copy_planes(grey_photograph(seed)).whole[::2, ::2] for seed in range(2)]
    here, other = (normalised_detail(np.ascontiguousarray(plane), 5.0) for plane in half)
    yield "normalised detail", here
    start = placement_of(1.0, 0.4, -0.3)
    yield "agreement of planes", np.array([agreement_of(here, other, start)])
    whole, moved = (
        normalised_detail(plane, 5.0) for plane in (planes[0], np.roll(planes[0], 1, 1))
    )
    yield "aligned planes", Aligner(whole).refined(moved, placement_of(1.0, 0.0, 0.0), 12, 1)
    placed = np.empty_like(whole)
    place(whole, np.array([[0.9, 0.05, 3.2], [-0.04, 0.8, 4.5]]), placed)
    yield "placed planes", placed
    cells = correlated_cells(whole, placed, np.ones_like(whole), 13, 4.0, 0.75)
    yield "correlated cells", np.stack(cells)
    yield "copy descriptors", describe(planes)
    yield "copy vectors", vectors_of(planes)
    looks = [Look(*file) for file in pictures(6)]
    features = measure.features(looks)
    yield "copy features", features
    measure.build([features], len(features), folder)
    index = measure.open(folder)
    shifted = np.roll(features, 1, axis=-1)
    found = [near for near in index.nearest(shifted)]
    yield "copy distances", np.array([near.distance if near else np.nan for near in found])


def of_search_and_texts() -> Results:
    model = ColourModel()
    names = ["red", "green", "blue", "white", "black", "yellow and red", "pink"] * 40
    rows = model.embed_texts(names)
    yield "rows of a product", rows
    values = np.random.default_rng(2).integers(-99, 100, (4000, 64)).astype(np.float32) / 128
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    yield "numpy norms", values
    yield "numpy functions", np.stack([np.exp(values), np.log1p(np.abs(values)), np.cos(values)])
    yield "numpy sums", values.sum(axis=1)
    yield "numpy products", values[:200] @ values.T
    yield "numpy product of one", values @ values[0]
    halves = Vectors([values.astype(np.float16)], 64)
    for name, factory in (("exact", "SQfp16"), ("cells", "IVF16,SQ8")):
        searched = Neighbours(halves, make_faiss_index(halves, factory), cell_share=0.25)
        near = [searched.nearest(query, 20) for query in values[:20]]
        yield f"cosines of search, {name}", np.stack([scores for scores, _ in near])
        yield f"rows of search, {name}", np.stack([rows for _, rows in near])
    yield "torch products", (torch.from_numpy(values[:200]) @ torch.from_numpy(values).T).numpy()
    texts = ["the brown dog in a garden", "der braune Hund im Garten", "un chien", "dog", "hotel"]
    yield "language scores", language_scores(pa.array(texts), "en").scores


def main(path: Path) -> None:
    results: dict[str, np.ndarray] = {}
    for part in (
        of_training(),
        of_images(),
        of_copies(path.with_suffix("")),
        of_search_and_texts(),
    ):
        results.update(part)
    np.savez(path, **results)


if __name__ == "__main__":
    (folder := Path(sys.argv[1]).with_suffix("")).mkdir()
    main(Path(sys.argv[1]))
