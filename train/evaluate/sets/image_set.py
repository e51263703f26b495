"""Images with what a dataset says of each: a class, or captions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from alignset.train.data.tables import image_file


class Item(NamedTuple):
    data: bytes  # the image's file
    about: Any  # the label of its class, or a list of its captions
    name: str


@dataclass(frozen=True)
class FolderImages:
    """Images of a folder, gone through as often as one likes.

    Attributes:
      about: by the image's name in the folder.
    """

    folder: Path
    about: dict[str, Any]

    def __iter__(self) -> Iterator[Item]:
        for name, about in self.about.items():
            yield Item(image_file(self.folder / name), about, name)


@dataclass(frozen=True)
class StreamedImages:
    """Images that are read anew each time, such as the samples of shards."""

    read: Callable[[], Iterator[Item]]

    def __iter__(self) -> Iterator[Item]:
        return self.read()


ImageSet = FolderImages | StreamedImages
