"""Files of evaluation images, measured: what an index is made of."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from alignset.transforms.decontamination.evaluation_files import NamedImage, named_images
from alignset.transforms.decontamination.evaluation_index import find_index
from alignset.transforms.decontamination.overlap_measure import Features, OverlapMeasure, Shown
from alignset.transforms.decontamination.overlap_settings import EvaluationFile, EvaluationSet
from alignset.transforms.images.examine import CRASHED_DECODER, Image, Unusable, examine
from alignset.transforms.storage.files import local_copy, remove, shown_path, write_atomically
from alignset.transforms.storage.tar_members import BrokenTar
from alignset.transforms.workers.claims import CLAIM, Claim
from alignset.transforms.workers.fencing import Fence
from alignset.transforms.workers.threads import in_threads
from alignset.transforms.workers.trial_process import TrialProcess, trial_process

FEATURES = "evaluation-"  # how the names of what is measured begin
_MEASURED_AT_ONCE, _READ_AT_ONCE = 64, 1024
BYTES_AT_ONCE = 1 << 24  # of the files of images measured together, about


class MeasuredPart(NamedTuple):
    """The images of some evaluation files, measured.

    Attributes:
      first: the part's first file; parts are put in the order of these.
      path: of a file of the images' features; empty where the index was there already.
      rows: set, name and file of each image.
      unreadable: set and name of each that cannot be decoded.
    """

    first: EvaluationFile
    path: str
    rows: list[tuple[str, str, str]]
    unreadable: list[tuple[str, str]]


def measure_part(
    files: tuple[EvaluationFile, ...],
    place: str,
    measure: OverlapMeasure,
    work: str,
    fence: Fence,
) -> MeasuredPart:
    """The features of the images in some files; nothing is read where the index is there already.

    Args:
      place: of the index. work: a folder for the features. fence: of this start of the command.

    Raises:
      RuntimeError: a file cannot be read to its end.
    """
    part = MeasuredPart(files[0], "", [], [])
    if find_index(place) is not None:
        return part
    digest = hashlib.sha256(
        "\n".join(shown_path(file.path) for file in files).encode()
    ).hexdigest()[:16]
    path = f"{work}/{FEATURES}{digest}.rows"
    claim = Claim(f"{path}{CLAIM}", fence)
    with ExitStack() as stack:
        trial = None
        if claim.mark.suspect:
            trial = stack.enter_context(trial_process(partial(_measure_alone, measure=measure)))
        write_atomically(path, lambda sink: _write_features(files, measure, part, sink, trial))
    remove(claim.path)
    return part._replace(path=path)


def _write_features(
    files: Iterable[EvaluationFile],
    measure: OverlapMeasure,
    part: MeasuredPart,
    sink: BinaryIO,
    trial: TrialProcess | None,
) -> None:
    for file in files:
        for features in _measured(file, measure, part, trial):
            sink.write(np.ascontiguousarray(features).tobytes())


def _measured(
    file: EvaluationFile, measure: OverlapMeasure, part: MeasuredPart, trial: TrialProcess | None
) -> Iterator[Features]:
    """Features of a file's images; notes in the part what each of them is."""
    looks: list[Shown] = []
    bytes_held = 0
    for named, image in _looked_at(file, trial):
        if isinstance(image, Image):
            part.rows.append((file.name, named.name, shown_path(file.path)))
            looks.append(Shown(named.body, image, in_full=True))
            bytes_held += len(named.body)
            if len(looks) == _MEASURED_AT_ONCE or bytes_held > BYTES_AT_ONCE:
                yield measure.features(looks)
                looks, bytes_held = [], 0
        else:
            part.unreadable.append((file.name, shown_name(shown_path(file.path), named.name)))
    if looks:
        yield measure.features(looks)


def _measure_alone(bodies: Sequence[bytes], measure: OverlapMeasure) -> None:
    """Decodes evaluation images as `_measured` does."""
    for body in bodies:
        image = examine(body, in_full=True, keep_grey=True)
        if isinstance(image, Image):
            measure.features([Shown(body, image, in_full=True)])


def _looked_at(
    file: EvaluationFile, trial: TrialProcess | None
) -> Iterator[tuple[NamedImage, object]]:
    def look(named: NamedImage) -> tuple[NamedImage, object]:
        if trial and trial.lethal([named.body]):
            return named, Unusable("undecodable", CRASHED_DECODER)
        return named, examine(named.body, in_full=True, keep_grey=True)

    try:
        yield from in_threads(look, named_images(file.path), chunk=4)
    except (OSError, EOFError, BrokenTar, pa.ArrowException) as error:
        reason = str(error).partition("\n")[0]
        raise RuntimeError(
            f"evaluation images: cannot read {file.path} to its end: {reason}; replace the file"
        ) from error


def shown_name(path: str, name: str) -> str:
    """The name of an image among all; that within a file follows the file's own."""
    return f"{path}/{name}" if name else path


def read_features(part: MeasuredPart, measure: OverlapMeasure) -> Iterator[Features]:
    if not part.rows:
        return
    rows = np.memmap(local_copy(part.path), measure.row_type, "r").view(np.ndarray)
    for first in range(0, len(rows), _READ_AT_ONCE):
        yield rows[first : first + _READ_AT_ONCE]


def by_set(parts: Collection[MeasuredPart]) -> dict[str, EvaluationSet]:
    """How many images each evaluation set has, by its name."""
    images = Counter(of for part in parts for of, _, _ in part.rows)
    unreadable = Counter(of for part in parts for of, _ in part.unreadable)
    names = sorted(images.keys() | unreadable.keys())
    return {name: EvaluationSet(images[name], unreadable[name]) for name in names}
