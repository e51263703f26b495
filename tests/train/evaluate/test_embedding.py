"""A set goes through a model once, in parts that fit, and what can't be decoded is counted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.evaluate.embedding import Embedding
from tests.support.train_shards import COLOURS, encoded
from tests.support.word_embedder import WordEmbedder


@pytest.fixture
def embedding(tmp_path: Path) -> Embedding:
    return Embedding(WordEmbedder(), tmp_path, batch_size=3)


FILES = [encoded(Image.new("RGB", (9, 7), colour)) for colour in COLOURS.values()]


def test_each_content_goes_through_once(embedding: Embedding, tmp_path: Path):
    files = [*FILES, b"no image", FILES[2], FILES[0], FILES[2]]
    embedded = embedding.images(files)
    expected = WordEmbedder().embed_images([Image.new("RGB", (1, 1), c) for c in COLOURS.values()])
    order = [*range(8), 2, 0, 2]
    np.testing.assert_allclose(embedded.features[:], expected[order], atol=1e-6)
    assert embedded.places.tolist() == [*range(8), 9, 10, 11]
    assert embedded.skipped == 1
    assert [embedded.identities[i] for i in (8, 9)] == [embedded.identities[i] for i in (2, 0)]
    assert embedding.embedder.images_seen == embedding.computed == 8
    again = Embedding(WordEmbedder(), tmp_path, batch_size=5)
    np.testing.assert_array_equal(again.images(files).features[:], embedded.features[:])
    assert again.computed == 0


def test_texts(embedding: Embedding):
    texts = ["a red dot", "blue", "a red dot", "\ud800", ""] * 120
    features = embedding.texts(texts)
    np.testing.assert_array_equal(features[:], WordEmbedder().embed_texts(texts[:5] * 120)[:])
    assert embedding.computed == 4


def test_after_a_kill_it_goes_on(embedding: Embedding, tmp_path: Path):
    def killed():
        yield from FILES[:6]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embedding.images(killed())
    again = Embedding(WordEmbedder(), tmp_path, batch_size=3)
    assert len(again.images(FILES).features) == 8
    assert again.computed in (2, 5)  # a part may have been under way


def test_large_images_are_decoded_in_small_parts(embedding: Embedding, monkeypatch):
    monkeypatch.setattr("alignset.train.data.images.MOST_PIXELS", 100)
    seen = []
    embed = embedding.embedder.embed_images
    monkeypatch.setattr(
        embedding.embedder, "embed_images", lambda part: seen.append(len(part)) or embed(part)
    )
    embedding.images(FILES)
    assert seen == [2, 2, 2, 2]  # of 63 px each


def test_of_no_image_there_is_nothing(embedding: Embedding):
    embedded = embedding.images([b"no image"])
    assert (len(embedded.features), embedded.skipped, embedded.identities) == (0, 1, [])
