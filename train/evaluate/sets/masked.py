"""Images and, for each, a mask with the class of each pixel."""

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import UnidentifiedImageError

from alignset.train.data.images import check_decodable, image_files, opened
from alignset.train.data.tables import image_file
from alignset.train.errors import SettingsError, counted
from alignset.transforms.images.decode import MAX_MEMORY
from alignset.transforms.images.file_look import MAX_PIXELS
from alignset.transforms.workers.limited_process import Limits, RaisedError, call_limited

_MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif")
_NOT_A_MASK = "the mask {} is not a PNG, BMP, TIFF or GIF: replace it"
LIMITS = Limits(cpu_s=20.0, memory=MAX_MEMORY)
_GREY = ("L", "P", "I", "I;16", "I;16B", "1")


def find_masked(images: str, masks: str) -> list[tuple[Path, Path]]:
    """The files of a folder's images, each with the mask of another folder that is called like
    it.

    Raises:
      SettingsError: a folder is missing, has no image, or an image has no mask.
    """
    folders = Path(images), Path(masks)
    for folder, flag in zip(folders, ("--data", "--masks"), strict=True):
        if not folder.is_dir():
            raise SettingsError(f"there is no folder {str(folder)!r}: name one with {flag}")
    files = image_files(folders[0])
    if not files:
        raise SettingsError(f"the folder {images!r} has no image: name one that has some")
    of_stem = {os.path.splitext(name)[0]: name for name in image_files(folders[1], _MASKS)}
    stems = [os.path.splitext(name)[0] for name in files]
    missing = [name for name in stems if name not in of_stem]
    if missing:
        raise SettingsError(
            f"{masks!r} has no mask of {counted(len(missing), 'image')} of {images!r}, the first "
            f"{missing[0]!r}: put a .png of that name there, or take the images out"
        )
    pairs = zip(files, stems, strict=True)
    return [(folders[0] / name, folders[1] / of_stem[stem]) for name, stem in pairs]


def read_mask(path: Path) -> npt.NDArray[np.generic]:
    """[h, w], the values of its pixels: of most files uint8, an eighth of int64.

    Raises:
      SettingsError: it can't be read, or its pixels are colours.
    """
    data = image_file(path)
    try:
        check_decodable(data, of_folder=True)
        mode, values = call_limited(mask_parts, data, LIMITS)
    except UnidentifiedImageError as error:  # which tells where its bytes lie in memory
        raise SettingsError(_NOT_A_MASK.format(path)) from error
    except RaisedError as error:
        if error.kind == "UnidentifiedImageError":
            raise SettingsError(_NOT_A_MASK.format(path)) from error
        raise SettingsError(f"the mask {path} can't be read ({error!s:.80}): replace it") from error
    except Exception as error:  # what it costs, or how it is coded
        raise SettingsError(f"the mask {path} can't be read ({error!r:.80}): replace it") from error
    numbers: npt.NDArray[np.generic] = np.load(io.BytesIO(values), allow_pickle=False)
    if mode.decode() not in _GREY or numbers.ndim != 2:
        raise SettingsError(
            f"the mask {path} has colours (mode {mode.decode()}): its pixels must be numbers of "
            "classes"
        )
    return numbers


def mask_parts(data: bytes) -> list[bytes]:
    """The mode of a mask and its pixels as a file of numpy's, by the child that decodes it."""
    mask = opened(data, ("PNG", "BMP", "TIFF", "GIF"))
    if mask.width * mask.height > MAX_PIXELS:
        raise MemoryError
    file = io.BytesIO()
    np.save(file, np.asarray(mask), allow_pickle=False)
    return [mask.mode.encode(), file.getvalue()]
