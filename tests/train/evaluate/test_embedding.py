"""A set goes through a model once, in parts that fit; vectors are found again by their files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.image_sets import Item
from tests.support.evaluations import WordEmbedder
from tests.support.train_shards import COLOURS, encoded

FILES = [encoded(Image.new("RGB", (9, 7), colour)) for colour in COLOURS.values()]


@pytest.fixture
def embedding(tmp_path: Path) -> Embedding:
    return Embedding(WordEmbedder(), tmp_path, batch_size=3)


def items(files: list[bytes]) -> list[Item]:
    return [Item(data, i, f"{i}.png") for i, data in enumerate(files)]


def test_each_content_goes_through_once_and_is_found_by_the_next_task(embedding, tmp_path: Path):
    files = [*FILES, b"no image", FILES[2], FILES[0], FILES[2]]
    embedded = embedding.images(items(files), "a")
    expected = WordEmbedder().embed_images([Image.new("RGB", (1, 1), c) for c in COLOURS.values()])
    order = [*range(8), 2, 0, 2]
    np.testing.assert_allclose(embedded.vectors, expected[order], atol=1e-6)
    assert [item.about for item in embedded.items] == [*range(8), 9, 10, 11]
    assert (embedded.skipped, {item.data for item in embedded.items}) == (1, {b""})
    assert embedded.identities()[8:10] == [embedded.identities()[i] for i in (2, 0)]
    assert embedding.embedder.images_seen == 8
    other = encoded(Image.new("RGB", (3, 3), (1, 2, 3)))
    for more, seen in (([], 0), ([other], 1), ([other], 0)):
        again = Embedding(WordEmbedder(), tmp_path, batch_size=5)
        vectors = again.images(items([*files[1:], *more]), "a").vectors
        np.testing.assert_array_equal(vectors[:10], embedded.vectors[1:])
        assert again.embedder.images_seen == seen
    (kept,) = tmp_path.glob("*/images-*.npz")
    with np.load(kept) as file:
        assert file["vectors"].shape == (9, 8)
    kept.write_bytes(kept.read_bytes()[:100])  # what is broken is made anew
    np.testing.assert_array_equal(embedding.images(items(files), "a").vectors, embedded.vectors)


def test_texts(embedding: Embedding, tmp_path: Path):
    texts = ["a red dot", "blue", "a red dot", "\ud800", ""] * 120
    expected = WordEmbedder().embed_texts(texts[:5] * 120)
    for _ in range(2):
        np.testing.assert_array_equal(embedding.texts(texts), expected)
    assert embedding.embedder.texts_seen == 4


def test_an_interrupted_evaluation_leaves_nothing(embedding: Embedding, tmp_path: Path):
    def killed():
        yield from items(FILES[:6])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedding.images(killed(), "a")
    assert [*tmp_path.glob("*/*")] == []
    assert len(embedding.images(items(FILES), "a").vectors) == 8


def test_large_images_are_decoded_in_small_parts(embedding: Embedding, monkeypatch):
    monkeypatch.setattr("alignset.train.data.images.MOST_PIXELS", 100)
    seen = []
    embed = embedding.embedder.embed_images
    monkeypatch.setattr(
        embedding.embedder, "embed_images", lambda part: seen.append(len(part)) or embed(part)
    )
    embedding.images(items(FILES), "a")
    assert seen == [2, 2, 2, 2]  # of 63 px each


def test_no_image_and_what_cannot_be_kept(embedding: Embedding, tmp_path: Path, monkeypatch):
    embedded = embedding.images(items([b"no image"]), "a")
    assert (embedded.vectors.shape, embedded.skipped, embedded.items) == ((0, 8), 1, [])
    monkeypatch.setattr(WordEmbedder, "embed_images", lambda *_: np.full((1, 8), np.nan))
    with pytest.raises(TrainingError, match="not all finite"):
        embedding.images(items(FILES[:1]), "a")
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="--cache"):
        Embedding(WordEmbedder(), tmp_path / "file").images(items(FILES), "a")
