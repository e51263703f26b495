"""Captions in several languages as clip_benchmark's own loaders read them from the same files."""

import importlib
import json
from pathlib import Path

import pytest

from alignset.train.evaluate.sets.captioned import CaptionedFiles, find_captioned

NAMES = ["b.jpg", "a.jpg", "c.jpg"]
LINES = {
    "de": ["ein Hund", "zwei Katzen, müde", "drei"],
    "ja": ["犬", "二匹の猫", "三"],
    "en": ["a dog", "two cats ", "three"],
}


def put_images(folder: Path) -> str:
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_bytes(b"")  # nobody decodes them
    return str(folder)


def their_pairs(theirs, root: Path, code: str) -> list[tuple[str, str]]:
    theirs.create_annotation_file(str(root), code)
    read = json.loads((root / theirs.OUTPUT_FILENAME_TEMPLATE.format(code)).read_text())
    pairs = zip(read["image_paths"], read["annotations"], strict=True)
    return [(Path(image).name, text.strip()) for image, text in pairs]


def our_pairs(data: Path, language: str, images: str, **options) -> list[tuple[str, str]]:
    found = find_captioned(str(data), images=images, **options)
    assert isinstance(found, CaptionedFiles)
    each = [(name, caption) for name, own in found.captions.items() for caption in own]
    return [(name, c.text) for name, c in each if c.language in (language, "")]


@pytest.mark.parametrize(
    ("module", "place", "language", "code"),
    [("xtd200", "xtd200", "de", "deu_Latn"), ("flickr30k_200", "flickr30k-200", "ja", "jpn_Jpan")],
)
def test_lines_beside_a_list_of_images(
    module: str, place: str, language: str, code: str, tmp_path: Path, monkeypatch
) -> None:
    images = put_images(tmp_path / place / "images")
    names, texts = tmp_path / "names.txt", tmp_path / "captions.txt"
    names.write_text("\n".join(NAMES) + "\n")
    texts.write_text("\n".join(LINES[language]) + "\n", encoding="utf-8")
    theirs = importlib.import_module(f"clip_benchmark.datasets.{module}")

    def lines_of(url: str) -> list[str]:  # in place of a download
        return (texts if code in url else names).read_text(encoding="utf-8").splitlines()

    monkeypatch.setattr(theirs, "_get_lines", lines_of)
    expected = their_pairs(theirs, tmp_path, code)
    assert len(expected) == 3
    assert our_pairs(texts, language, images, image_list=str(names)) == expected


def test_xm3600_of_which_they_read_the_first_caption(tmp_path: Path) -> None:
    from clip_benchmark.datasets import crossmodal3600 as theirs

    images, file = put_images(tmp_path / "xm3600/images"), tmp_path / "xm3600/captions.jsonl"
    rows = [
        {"image/key": Path(name).stem, "image/locale": "en"}
        | {code: {"caption": [texts[n], f"{texts[n]} 2"]} for code, texts in LINES.items()}
        for n, name in enumerate(NAMES)
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    for code in LINES:
        expected = their_pairs(theirs, tmp_path, code)
        assert our_pairs(file, code, images, most=1) == expected
        assert len(our_pairs(file, code, images)) == 6  # ours reads all
