"""Runs an evaluation task in this process, with an embedder that is made for tests."""

import json
from pathlib import Path
from unittest import mock

from PIL import Image

from alignset.train.evaluate.__main__ import main
from tests.support.train_shards import COLOURS, encoded
from tests.support.word_embedder import WordEmbedder


def evaluated(capsys, task: str, *flags: object, cache: Path | None = None) -> dict:
    """What a task prints; fails where it does not end well."""
    capsys.readouterr()
    assert run(task, *flags, cache=cache) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def refused(capsys, task: str, *flags: object) -> str:
    """The one line of a task that ends with exit status 2."""
    capsys.readouterr()
    assert run(task, *flags) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def run(task: str, *flags: object, cache: Path | None = None) -> int:
    kept = [f"--cache={cache}"] if cache else []
    arguments = [task, "--model=words", *kept, *map(str, flags)]
    with mock.patch("alignset.train.model.embed.open_embedder", return_value=WordEmbedder()):
        return main(arguments)


def colour_folders(root: Path, each: int = 3, first: int = 0) -> Path:
    """A folder for each of COLOURS, with images that are nearly of its colour.

    Args:
      first: the number of the first image; no two numbers have the same pixels.
    """
    for name, (red, green, blue) in COLOURS.items():
        (root / name).mkdir(parents=True)
        for i in range(first, first + each):
            near = (max(red - i, 0), abs(green - 2 * i), blue)
            (root / name / f"{i}.png").write_bytes(encoded(Image.new("RGB", (12, 9), near)))
    return root
