"""Images with classes: a folder for each class, a table beside a folder of images, shards."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from alignset.train.data.find_shards import find_shards
from alignset.train.data.images import class_folders
from alignset.train.data.samples import shard_samples
from alignset.train.data.tables import (
    IMAGE_COLUMNS,
    LANGUAGE_COLUMNS,
    TABLES,
    check_images,
    check_split,
    read_table,
)
from alignset.train.errors import SettingsError
from alignset.train.evaluate.sets.image_set import FolderImages, ImageSet, Item, StreamedImages

LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "wnid")
_FORM = (
    "name a folder with a subfolder of images for each class, a table with the columns image and "
    f"label ({', '.join(TABLES)}), or .tar shards with KEY.jpg and KEY.cls, the number of its class"
)


def class_labels(images: ImageSet) -> list[str] | None:
    """The labels in order; None of shards: only going through all of them would tell."""
    return sorted({*images.about.values()}) if isinstance(images, FolderImages) else None


def labelled_languages(data: str) -> list[str]:
    """The languages that a table's rows are in, in order; empty: it says none, or is not a table.

    Raises:
      SettingsError: it can't be read as one.
    """
    path = Path(data)
    if path.suffix.lower() not in TABLES or not path.is_file():
        return []
    return sorted({language for (language,) in read_table(path, LANGUAGE_COLUMNS)} - {""})


def find_labelled(
    data: str, *, images: str = "", split: str = "", language: str = ""
) -> ImageSet:
    """The set that `data` names, with a label for each image: a folder's name, a number, a name.

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
    for flag, value in (("images", images), ("split", split)):
        if value:
            raise SettingsError(f"--{flag} goes with a table of classes; {data!r} is none")
    if path.is_dir() and not any(path.glob("*.tar")):
        folders = class_folders(path)
        return FolderImages(path, {file: name for name, own in folders.items() for file in own})
    try:
        return StreamedImages(partial(_read_shards, find_shards(data)))
    except SettingsError as error:
        if "://" in data or data.startswith("pipe:"):  # which may be one of shards alone
            raise
        raise SettingsError(f"no images with classes at {data!r}: {_FORM}") from error


def _read_shards(shards: list[str]) -> Iterator[Item]:
    for shard in shards:
        for sample in shard_samples(shard, text_file="cls"):
            if sample.image is not None and sample.text is not None:
                yield Item(sample.image, sample.text, sample.key)


def _labelled_table(path: Path, images: str, split: str, language: str) -> FolderImages:
    if not path.is_file():
        raise SettingsError(f"there is no file {path}: name a table of images and their classes")
    rows = [*read_table(path, IMAGE_COLUMNS, LABEL_COLUMNS, ("split", ""), LANGUAGE_COLUMNS)]
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
    return FolderImages(folder, labels)
