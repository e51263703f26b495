"""Images with classes: a folder for each class, a table beside a folder of images, shards."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from alignset.train.data.find_shards import find_shards
from alignset.train.data.images import class_folders
from alignset.train.data.samples import shard_samples
from alignset.train.data.tables import (
    IMAGE_COLUMNS,
    LANGUAGE_COLUMNS,
    TABLES,
    check_images,
    check_split,
    image_file,
    read_table,
)
from alignset.train.errors import SettingsError

LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "wnid")
_FORM = (
    "name a folder with a subfolder of images for each class, a table with the columns image and "
    f"label ({', '.join(TABLES)}), or .tar shards with KEY.jpg and KEY.cls, the number of its class"
)


class LabelledImage(NamedTuple):
    data: bytes
    label: str  # as the dataset has it: a folder's name, a number, a name
    name: str


@dataclass(frozen=True)
class LabelledFiles:
    """Images in a folder. Goes through them as often as it is asked to.

    Attributes:
      labels: of each image, by its name in the folder.
    """

    folder: Path
    labels: dict[str, str]

    def __iter__(self) -> Iterator[LabelledImage]:
        for name, label in self.labels.items():
            yield LabelledImage(image_file(self.folder / name), label, name)

    def names(self) -> list[str] | None:
        """The classes in order."""
        return sorted(set(self.labels.values()))


@dataclass(frozen=True)
class LabelledShards:
    """KEY.jpg and KEY.cls, the number of its class, in WebDataset shards."""

    shards: tuple[str, ...]

    def __iter__(self) -> Iterator[LabelledImage]:
        for shard in self.shards:
            for sample in shard_samples(shard, text_file="cls"):
                if sample.image is not None and sample.text is not None:
                    yield LabelledImage(sample.image, sample.text, sample.key)

    def names(self) -> list[str] | None:
        """Only going through all of them would tell."""
        return None


LabelledSet = LabelledFiles | LabelledShards


def labelled_languages(data: str) -> list[str]:
    """The languages that a table's rows are in, in order; empty: it says none, or is not a table.

    Raises:
      SettingsError: it can't be read as one.
    """
    path = Path(data)
    if path.suffix.lower() not in TABLES or not path.is_file():
        return []
    rows = read_table(path, LANGUAGE_COLUMNS)
    return sorted({language for (language,) in rows if language})


def find_labelled(
    data: str, *, images: str = "", split: str = "", language: str = ""
) -> LabelledSet:
    """The set that `data` names.

    Args:
      language: of a table's rows, where it has languages; empty: all.
      images: the folder of the images that a table names; empty: the table's own folder.
      split: which of a table's splits, where it has any; empty: all.

    Raises:
      SettingsError: there is none, a folder has no image, or an image is missing.
    """
    path = Path(data)
    if path.suffix.lower() in TABLES:
        return _labelled_table(path, images, split, language)
    if images:
        raise SettingsError(f"--images goes with a table of classes; {data!r} is none")
    if split:
        raise SettingsError(f"--split goes with a table of classes; {data!r} is none")
    if path.is_dir() and not any(path.glob("*.tar")):
        folders = class_folders(path)
        return LabelledFiles(path, {file: name for name, own in folders.items() for file in own})
    try:
        return LabelledShards(tuple(find_shards(data)))
    except SettingsError as error:
        if "://" in data or data.startswith("pipe:"):  # which may be one of shards alone
            raise
        raise SettingsError(f"no images with classes at {data!r}: {_FORM}") from error


def _labelled_table(path: Path, images: str, split: str, language: str) -> LabelledFiles:
    if not path.is_file():
        raise SettingsError(f"there is no file {path}: name a table of images and their classes")
    columns = IMAGE_COLUMNS, LABEL_COLUMNS, ("split", ""), LANGUAGE_COLUMNS
    rows = [*read_table(path, *columns)]
    check_split(path, split, [of_split for _, _, of_split, _ in rows])
    labels = {
        image: label
        for image, label, of_split, of_language in rows
        if image and label and (not of_split or not split or of_split == split)
        if not language or of_language in ("", language)
    }
    if not labels:
        raise SettingsError(f"{path} has no image with a class: see --split")
    folder = Path(images) if images else path.parent
    check_images(folder, [*labels], path)
    return LabelledFiles(folder, labels)
