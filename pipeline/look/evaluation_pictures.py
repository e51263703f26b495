"""Copies of evaluation images, each beside the evaluation image that it is a copy of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from textwrap import wrap

from PIL import Image as PillowImage
from PIL import ImageDraw

from alignset.pipeline.datasets.stored_images import shown_picture
from alignset.pipeline.look.fonts import PILLOWS_OWN, font
from alignset.pipeline.look.sample import Overlap, Pair
from alignset.pipeline.look.sheet import EMPTY, FAINT, PICTURE_BOX, SMALL_PX, Picture
from alignset.transforms.decontamination.evaluation_files import find_images
from alignset.transforms.decontamination.evaluation_index import set_folders
from alignset.transforms.decontamination.overlap_settings import EvaluationFile

_GAP_PX = 4
_LINE = 24  # characters that go into a half
_LABEL_PX = 20  # of height, above each half
_HALF = (PICTURE_BOX[0] - _GAP_PX) // 2, PICTURE_BOX[1] - _LABEL_PX
LABELS = "dropped", "evaluation image"
NOT_THERE = "its file is not there"


def overlap_pictures(pairs: Sequence[Pair], files: Sequence[EvaluationFile]) -> list[Picture]:
    """The dropped image at the left and the evaluation image at the right, of each pair, with
    what they are above them.

    Args:
      pairs: with their overlap. files: of the evaluation images, as the manifest has them.
    """
    bodies = _evaluation_bodies(pairs, files)
    return [_picture(pair.overlap, bodies) for pair in pairs]


def _picture(overlap: Overlap | None, bodies: dict[tuple[str, str], bytes]) -> Picture:
    if overlap is None or not overlap.thumbnail:
        return "no image is stored"
    dropped = shown_picture(overlap.thumbnail, _HALF)
    body = bodies.get((overlap.of_set, overlap.name))
    evaluation = shown_picture(body, _HALF) if body else NOT_THERE
    both = PillowImage.new("RGB", PICTURE_BOX, EMPTY)
    draw, face = ImageDraw.Draw(both), font(PILLOWS_OWN, SMALL_PX)
    for at, picture in enumerate((dropped, evaluation)):
        left = at * (_HALF[0] + _GAP_PX)
        middle = left + _HALF[0] // 2
        draw.text((middle, 3), LABELS[at], FAINT, face, anchor="ma")
        if isinstance(picture, PillowImage.Image):
            x, y = left + (_HALF[0] - picture.width) // 2, (_HALF[1] - picture.height) // 2
            both.paste(picture, (x, _LABEL_PX + y))
        else:
            lines = "\n".join(wrap(picture, _LINE))
            draw.text((middle, PICTURE_BOX[1] // 2), lines, FAINT, face, anchor="mm")
    return both


def _evaluation_bodies(
    pairs: Sequence[Pair], files: Sequence[EvaluationFile]
) -> dict[tuple[str, str], bytes]:
    """The files of the evaluation images that are there, by set and name."""
    folders = set_folders([(file.name, file.path) for file in files])
    paths = {(file.name, file.path.removeprefix(folders[file.name])): file.path for file in files}
    wanted: dict[tuple[str, str], list[str]] = {}  # names within a file, by the file
    for overlap in {pair.overlap for pair in pairs if pair.overlap}:
        for of_file, name in _ways_to_read(overlap.name):
            if (overlap.of_set, of_file) in paths:
                wanted.setdefault((overlap.of_set, of_file), []).append(name)
                break
    bodies: dict[tuple[str, str], bytes] = {}
    for (of_set, of_file), names in wanted.items():
        try:
            found = find_images(paths[of_set, of_file], names)
        except Exception:  # gone, or broken since: the other half of the picture is shown
            continue
        for name, body in found.items():
            bodies[of_set, f"{of_file}/{name}" if name else of_file] = body
    return bodies


def _ways_to_read(name: str) -> list[tuple[str, str]]:
    """A file and a name within it, for each way to divide an evaluation image's name."""
    parents = [str(parent) for parent in PurePosixPath(name).parents][:-1]
    return [(name, ""), *((parent, name[len(parent) + 1 :]) for parent in parents)]
