"""Captions in several languages as clip_benchmark's own loaders read them from the same files."""

import importlib
import json
from pathlib import Path

import pytest
from PIL import Image

from alignset.train.evaluate.sets.captioned import CaptionedFiles, find_captioned

NAMES = ["b.jpg", "a.jpg", "c.jpg"]
LINES = {
    "de": ["ein Hund", "zwei Katzen, müde", "drei"],
    "ja": ["犬", "二匹の猫", "三"],
    "en": ["a dog", "two cats ", "three"],
}


def their_pairs(annotations: Path) -> list[tuple[str, str]]:
    read = json.loads(annotations.read_text())
    return [
        (Path(image).name, text)
        for image, text in zip(read["image_paths"], read["annotations"], strict=True)
    ]


def our_pairs(data: str, language: str, **options: object) -> list[tuple[str, str]]:
    found = find_captioned(data, **options)  # type: ignore[arg-type]
    assert isinstance(found, CaptionedFiles)
    return [
        (name, caption.text)
        for name, captions in found.captions.items()
        for caption in captions
        if caption.language in (language, "")
    ]


def put_images(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name)


@pytest.mark.parametrize(
    ("module", "place", "code"),
    [("xtd200", "xtd200", "deu_Latn"), ("flickr30k_200", "flickr30k-200", "jpn_Jpan")],
)
def test_lines_beside_a_list_of_images(
    module: str, place: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, language = tmp_path / place / "images", code[:2].replace("jp", "ja")
    put_images(images)
    names, texts = tmp_path / "names.txt", tmp_path / "captions.txt"
    names.write_text("\n".join(NAMES) + "\n")
    texts.write_text("\n".join(LINES[language]) + "\n", encoding="utf-8")
    theirs = importlib.import_module(f"clip_benchmark.datasets.{module}")

    def lines_of(url: str) -> list[str]:  # in place of a download
        return (texts if code in url else names).read_text(encoding="utf-8").splitlines()

    monkeypatch.setattr(theirs, "_get_lines", lines_of)
    theirs.create_annotation_file(str(tmp_path), code)
    expected = their_pairs(tmp_path / theirs.OUTPUT_FILENAME_TEMPLATE.format(code))
    assert len(expected) == 3
    ours = our_pairs(str(texts), language, images=str(images), image_list=str(names))
    assert ours == [(name, text.strip()) for name, text in expected]


def test_xm3600_of_which_they_read_the_first_caption(tmp_path: Path) -> None:
    from clip_benchmark.datasets import crossmodal3600 as theirs

    put_images(tmp_path / "xm3600/images")
    file = tmp_path / "xm3600/captions.jsonl"
    rows = [
        {"image/key": Path(name).stem, "image/locale": "en"}
        | {code: {"caption": [texts[n], f"{texts[n]} 2"]} for code, texts in LINES.items()}
        for n, name in enumerate(NAMES)
    ]
    file.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    images = str(tmp_path / "xm3600/images")
    for code in LINES:
        theirs.create_annotation_file(str(tmp_path), code)
        expected = their_pairs(tmp_path / theirs.OUTPUT_FILENAME_TEMPLATE.format(code))
        ours = our_pairs(str(file), code, images=images, most=1)
        assert ours == [(name, text.strip()) for name, text in expected]
        assert len(our_pairs(str(file), code, images=images)) == 6  # ours reads all
