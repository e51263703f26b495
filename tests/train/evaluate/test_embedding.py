"""A set goes through a model once, in parts that fit; embeddings on disk are found again, whole
after a kill, and shared by processes."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alignset.train.errors import SettingsError, TrainingError
from alignset.train.evaluate.embedding import Embedding
from alignset.train.evaluate.feature_store import FeatureStore
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


def test_of_no_image_there_is_nothing(embedding: Embedding, tmp_path: Path):
    features = FeatureStore(tmp_path, 3).rows(np.zeros(0, np.int64))
    assert (len(features), features[:].shape) == (0, (0, 3))
    embedded = embedding.images([b"no image"])
    assert (len(embedded.features), embedded.skipped, embedded.identities) == (0, 1, [])


def key(i: int) -> bytes:
    return i.to_bytes(8, "big") * 4


def rows(*numbers: int) -> np.ndarray:
    return np.array([[n, n + 0.5, -n] for n in numbers], np.float32)


def test_what_is_added_is_found_by_others_too(tmp_path: Path):
    store = FeatureStore(tmp_path / "a", 3)
    assert store.find([key(1), key(2)]).tolist() == [-1, -1]
    assert store.add([key(2), key(1)], rows(2, 1)).tolist() == [0, 1]
    assert store.add([key(3)], rows(3)).tolist() == [2]
    for again in (store, FeatureStore(tmp_path / "a", 3)):
        numbers = again.find([key(3), key(1), key(9), key(2)])
        assert numbers.tolist() == [2, 1, -1, 0]
        features = again.rows(numbers[numbers >= 0])
        np.testing.assert_array_equal(features[:], rows(3, 1, 2))
        assert [(first, part.tolist()) for first, part in features.parts(2)] == [
            (0, rows(3, 1).tolist()),
            (2, rows(2).tolist()),
        ]
        np.testing.assert_array_equal(features.take(np.array([2, 0]))[:], rows(2, 3))


@pytest.mark.parametrize(("keys", "values"), [(64, 36), (80, 30), (64, 24), (70, 60)])
def test_what_a_kill_left_beyond_is_cut_off(tmp_path: Path, keys: int, values: int):
    FeatureStore(tmp_path, 3).add([key(1), key(2)], rows(1, 2))
    with (tmp_path / "keys").open("ab") as file:
        file.write(b"x" * 16)
    with (tmp_path / "rows").open("ab") as file:
        file.write(b"x" * 36)
    os.truncate(tmp_path / "keys", keys)
    os.truncate(tmp_path / "rows", values)
    store = FeatureStore(tmp_path, 3)
    assert store.find([key(1), key(2)]).tolist() == [0, 1]
    store.add([key(5)], rows(5))
    again = FeatureStore(tmp_path, 3)
    np.testing.assert_array_equal(again.rows(again.find([key(2), key(5)]))[:], rows(2, 5))


def add_many(folder: Path, first: int) -> None:
    store = FeatureStore(folder, 3)
    for i in range(first, first + 60):
        store.add([key(i)], rows(i))


def test_several_processes_write_at_once(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add_many, args=(tmp_path, 100 * i)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    store = FeatureStore(tmp_path, 3)
    numbers = [100 * i + j for i in range(3) for j in range(60)]
    found = store.find([key(n) for n in numbers])
    np.testing.assert_array_equal(store.rows(found)[:], rows(*numbers))


def test_what_cannot_be_kept_is_refused(tmp_path: Path):
    store = FeatureStore(tmp_path, 3)
    with pytest.raises(TrainingError, match="not all finite"):
        store.add([key(1)], np.array([[0, np.nan, 1]], np.float32))
    assert store.find([key(1)]).tolist() == [-1]
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="--cache"):
        FeatureStore(tmp_path / "file" / "a", 3)
