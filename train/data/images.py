"""Images of samples: decoded, upright, squared, cropped."""

import io
import math
import random
from collections.abc import Collection, Generator, Iterable
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from alignset.train.data.samples import LONGEST_IMAGE
from alignset.train.errors import SettingsError
from alignset.transforms.images.decode import (
    KNOWN_FORMATS,
    bound_exif,
    decoded_apart,
    parts_of,
    remove_repeats,
    turn_of,
)
from alignset.transforms.images.file_formats import MAX_PIXELS, FileLook, signature_format
from alignset.transforms.workers.limited_process import CostlyError, CrashError

# As `beam_runner.py` has them, and what else ImageFolder takes; EPS would start a program.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF", "TIFF", "PPM")
_OF_FOLDERS = (b"II*\0", b"MM\0*", b"P1", b"P2", b"P3", b"P4", b"P5", b"P6", b"Pf")
IMAGE_SUFFIXES = frozenset(
    {*(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".avif")}
)
# Longer side / shorter side, where images are resized by the shorter one, as CLIP does it: an image
# of 1 x 65,500 px would take 10 GB.
MAX_ASPECT = 64
# Classification (section 5.3): Inception's crop (Szegedy et al., 2015), and the share of the
# shorter side that evaluation keeps.
_CROP_ASPECT, CENTRAL_RATIO = 4 / 3, 0.875
_ORIENTATION = 0x0112
MOST_PIXELS = 1 << 27  # of images that are decoded together, and one more
UPLOAD_PIXELS = 1 << 26  # 67 million: more than what phones take
UPLOAD_PX = 1024  # px of the longer side of what is handed on: twice what towers see
_EXIF, _MOST_EXIF = b"Exif\0\0", 64  # segments, which Pillow joins: 490 take 2 s
bound_exif()


class HasFile(Protocol):
    @property
    def data(self) -> bytes | None:
        """An image's file; None: there is none."""


Item = TypeVar("Item", bound=HasFile)


def check_decodable(data: bytes, *, of_folder: bool = False) -> FileLook:
    """Refuses a file that decoders must not be given, as curation does.

    Args:
      of_folder: take TIFF and PPM too. No shard has them, and a TIFF may be larger than it says.

    Raises:
      DecompressionBombError: it would take long for what it is.
      OSError: it has none of the formats, or is a JPEG without a scan of one frame that decoders
        agree on.
    """
    if len(data) > LONGEST_IMAGE:
        raise Image.DecompressionBombError(f"{len(data)} bytes")
    look = FileLook(data)
    if look.refusal:
        raise Image.DecompressionBombError(look.refusal)
    if look.format is None and not (of_folder and data.startswith(_OF_FOLDERS)):
        raise UnidentifiedImageError("cannot identify the format of the image")
    if look.format != "jpeg":
        return look
    exif = sum(data.startswith(_EXIF, begin) for _, begin, _ in look.segments.each)
    if look.segments.too_many or exif > _MOST_EXIF:
        raise Image.DecompressionBombError("a JPEG of too many segments")
    if look.jpeg is None or look.jpeg.error:
        raise OSError("the JPEG is broken, lossless, or of another rare coding")
    return look


def opened(data: bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """An image that is not decoded yet, of a file that `check_decodable` has passed."""
    body = remove_repeats(data, signature_format(data) or "")
    return Image.open(io.BytesIO(body), formats=formats)


def image_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> list[str]:
    """The paths of files in and below a folder that have one of these suffixes, in order."""
    paths = (p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    return [str(path.relative_to(folder)) for path in sorted(paths)]


def class_folders(root: Path) -> dict[str, list[str]]:
    """The images of a folder with a subfolder for each class: by class, their paths in the
    folder; all in order.

    Raises:
      SettingsError: there is no folder of a class, or one has no image.
    """
    folders = sorted(p for p in root.glob("*") if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise SettingsError(
            f"no images with classes in {str(root)!r}: name a folder with a subfolder of images "
            "for each class"
        )
    images = {path.name: [f"{path.name}/{file}" for file in image_files(path)] for path in folders}
    empty = next((name for name, files in images.items() if not files), None)
    if empty is not None:
        raise SettingsError(
            f"the class folder {str(root / empty)!r} has no image: put some in, or take it out"
        )
    return images


def decode_image(data: bytes, *, draft_px: int | None = None) -> Image.Image:
    """RGB, as seen, upright as EXIF says. Raises whatever Pillow raises where it can't be decoded.

    Args:
      draft_px: let a JPEG decode at a power-of-two reduction that is still this large.
    """
    look = check_decodable(data, of_folder=True)
    with turn_of(_pixels(look)):
        return _decoded(look, draft_px)


def _pixels(look: FileLook) -> int:
    """As many as a header says; of TIFF and PPM as many as may be."""
    width, height = look.size
    return width * height if look.format else MAX_PIXELS


def _decoded(look: FileLook, draft_px: int | None) -> Image.Image:
    if look.format not in KNOWN_FORMATS:
        return decoded_apart(upright_parts, look.body, _pixels(look))
    return decode_here(look.body, draft_px=draft_px)


def upright_parts(data: bytes) -> list[bytes]:
    """`parts_of` an image as seen, in the child process that decodes it."""
    return parts_of(decode_here(data))


def decode_here(
    data: bytes, max_pixels: int = MAX_PIXELS, *, draft_px: int | None = None
) -> Image.Image:
    """The same as `decode_image` by this process, of a file that `check_decodable` has passed.

    Raises:
      MemoryError: a TIFF or PPM has more pixels.
    """
    image = opened(data)
    if image.width * image.height > max_pixels:
        raise MemoryError
    if draft_px:
        image.draft("RGB", (draft_px, draft_px))
    ImageOps.exif_transpose(image, in_place=True)  # a copy where it is turned alone
    return convert_rgb(image)


def readable_image(data: bytes) -> Image.Image | None:
    """The same; None where it can't be decoded: one bad image is not a reason to stop."""
    try:
        return decode_image(data)
    except Exception:  # Pillow raises many kinds
        return None


def decode_square(data: bytes, side: int) -> np.ndarray:
    """uint8[side, side, 3] of an image's bytes. Raises what decode_image raises.

    JPEGs by simplejpeg and resized by torch: on photographs of 640x480 to 72 px 1.3 times as fast
    as Pillow, to 346 px 1.5 times, and the same pixels but for one step of rounding. Both let
    other threads run meanwhile.
    """
    look = check_decodable(data)
    with turn_of(_pixels(look)):
        pixels = _upright_jpeg(look, side)
        if pixels is None:
            pixels = np.array(not_longer(_decoded(look, side)))
        return resize_square(pixels, side)


def not_longer(image: Image.Image) -> Image.Image:
    """The image or, where a side is more than MAX_ASPECT times the other one, its middle."""
    longest = round(min(image.size) * MAX_ASPECT)
    if max(image.size) <= longest:
        return image
    width, height = (min(side, longest) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def resize_square(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8[h, w, 3] -> uint8[side, side, 3]: both sides to `side`, as the paper's 346x346
    (section 5)."""
    import torch  # here: processes that decode alone would take 3 s and 200 MB for it

    image = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # uint8[1, 3, h, w], channels last
    square = torch.nn.functional.interpolate(
        image, (side, side), mode="bilinear", antialias=True
    )  # uint8[1, 3, side, side]
    return square[0].permute(1, 2, 0).numpy()


def random_crop(pixels: np.ndarray, side: int, rng: random.Random, *, flip: bool) -> np.ndarray:
    """uint8[s, s, 3] -> uint8[side, side, 3], from anywhere; half of them mirrored if `flip`."""
    top, left = (rng.randint(0, len(pixels) - side) for _ in range(2))
    crop = pixels[top : top + side, left : left + side]
    is_mirrored = flip and rng.random() < 0.5
    return (crop[:, ::-1] if is_mirrored else crop).copy()  # a view would hold all pixels


def central_square(image: Image.Image, px: int) -> np.ndarray:
    """uint8[px, px, 3]: of an image whose shorter side is 8/7 of px, the central square."""
    image = not_longer(image)
    side, shorter = round(px / CENTRAL_RATIO), min(image.size)
    width, height = (int(side * old / shorter) for old in image.size)
    left, top = round((width - px) / 2), round((height - px) / 2)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image.crop((left, top, left + px, top + px)))


def random_box(
    width: int, height: int, min_area: float, rng: random.Random
) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of min_area to all of the area, with sides of 3:4 to 4:3."""
    for _ in range(10):
        area = width * height * rng.uniform(min_area, 1)
        aspect = math.exp(rng.uniform(-math.log(_CROP_ASPECT), math.log(_CROP_ASPECT)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = rng.randint(0, width - w), rng.randint(0, height - h)
            return left, top, left + w, top + h
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return left, top, left + side, top + side


def _upright_jpeg(look: FileLook, min_px: int) -> np.ndarray | None:
    """uint8[h, w, 3], both sides at least min_px where the image's are, or None: left to Pillow."""
    data, (width, height) = look.body, look.size
    if look.format != "jpeg" or max(width, height) > MAX_ASPECT * min(width, height):
        return None
    has_exif = data.find(b"Exif\0\0", 0, 1 << 16) >= 0
    exif = Image.open(io.BytesIO(data), formats=FORMATS).getexif() if has_exif else {}
    if exif.get(_ORIENTATION, 1) != 1:
        return None
    # By eighths it could come closer, but only halves are fast: 603/s by 6/8, 893/s whole.
    halvings = min(3, (min(height, width) // min_px).bit_length() - 1)
    try:
        if halvings < 1:
            return simplejpeg.decode_jpeg(data, "RGB")
        sides = {"min_height": -(-height >> halvings), "min_width": -(-width >> halvings)}
        return simplejpeg.decode_jpeg(data, "RGB", min_factor=1, **sides)
    except ValueError:  # CMYK, a warning of its decoder, or no image at all
        return None


def header_pixels(data: bytes) -> int:
    """How many pixels an image's header says that it has; 0 where none is read, so that it won't be
    decoded."""
    try:
        look = check_decodable(data, of_folder=True)
        width, height = look.size if look.format else opened(data).size
    except Exception:  # Pillow raises many kinds
        return 0
    return width * height


def parts_by_pixels(items: Iterable[Item], size: int) -> Generator[list[Item], None, None]:
    """So many items, or fewer where their images are large: decoded, a part takes 1 GB at most."""
    part: list[Item] = []
    pixels = 0
    for item in items:
        data = item.data or b""
        part.append(item)
        pixels += max(header_pixels(data), len(data) // 3)  # what cannot be decoded is held, too
        if len(part) == size or pixels > MOST_PIXELS:
            yield part
            part, pixels = [], 0
    if part:
        yield part


def convert_rgb(image: Image.Image) -> Image.Image:
    """RGB of an image of any mode, as a person sees it: scaled to 8 bits, over white where it is
    transparent. Pillow's own conversion clips 16 bits, so that nearly all is white, and leaves what
    colour a pixel has where nothing of it is to be seen."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.array(image, np.float32)  # [h, w]
        top = values.max(initial=0.0, where=np.isfinite(values))
        wide = image.mode.startswith("I;16")
        values *= 255 / (65_535 if wide or top > 255 else 255 if top > 1 else 1)
        grey = np.nan_to_num(values, copy=False).clip(0, 255).round().astype(np.uint8)
        if wide and "transparency" in image.info:  # a PNG's value that is transparent
            grey[np.array(image) == image.info["transparency"]] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


class RefusedPicture(Exception):
    """The bytes are not an image, or one that would cost too much; the message says which."""


def decode_upload(data: bytes) -> Image.Image:
    """RGB, upright, its longer side at most UPLOAD_PX.

    Raises:
      RefusedPicture: the bytes are not decoded.
    """
    try:
        look = check_decodable(data, of_folder=True)
        pixels = look.size[0] * look.size[1] if look.format else UPLOAD_PIXELS
        if pixels > UPLOAD_PIXELS:
            raise CostlyError
        return decoded_apart(small_parts, data, pixels)
    except (Image.DecompressionBombError, CostlyError, CrashError) as error:
        costs = "the image takes too much time or memory to open: give a smaller one"
        raise RefusedPicture(costs) from error
    except (OSError, EOFError) as error:
        formats = "JPEG, PNG, WebP, GIF, AVIF, TIFF or BMP"
        raise RefusedPicture(f"no image that can be opened: give a {formats}") from error


def small_parts(data: bytes) -> list[bytes]:
    """`parts_of` an upload's image, made small, in the child process."""
    picture = decode_here(data, UPLOAD_PIXELS, draft_px=UPLOAD_PX)
    picture.thumbnail((UPLOAD_PX, UPLOAD_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return parts_of(picture)
