"""How often the copy descriptor finds a copy's picture, and what it costs.

`python -m benchmarks.overlap.measure_descriptor` alters held-out pictures, and looks by exact
search for the 8 planes that are nearest to each altered one, among the planes of the pictures
themselves and of all distractors. The changes are those that the descriptor alone must bear: crops
to 70% and mirrors are the index's part.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from alignset.transforms.decontamination.copy_descriptor import MODEL_PATH, CopyDescriptor
from benchmarks.overlap.descriptor_file import descriptor_file, whitening
from benchmarks.overlap.net import CopyNet
from benchmarks.overlap.pictures import held_out_pictures
from benchmarks.overlap.tiles import (
    PLANE_PX,
    distractor_planes,
    grey_picture,
    has_detail,
    squashed,
    training_tiles,
)
from benchmarks.overlap.train_descriptor import NET_NAME, net_vectors

UInt8s = npt.NDArray[np.uint8]
Float32s = npt.NDArray[np.float32]

LONGER_SIDE_PX = 640  # of the pictures that are altered
NEAREST = 8
TIMED_PLANES = 4096


def scaled(grey: UInt8s) -> UInt8s:
    """The picture with a longer side of at most `LONGER_SIDE_PX`."""
    scale = min(1.0, LONGER_SIDE_PX / max(grey.shape))
    size = tuple(max(1, round(side * scale)) for side in grey.shape[::-1])
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def as_jpeg(grey: UInt8s, quality: int) -> UInt8s:
    """As it comes back from a JPEG of this quality."""
    _, body = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(body, cv2.IMREAD_GRAYSCALE), np.uint8)


def blurred(grey: UInt8s, share: float) -> UInt8s:
    """Under a Gaussian blur whose sigma is this share of the shorter side."""
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), share * min(grey.shape)), np.uint8)


def toned(grey: UInt8s, gamma: float, contrast: float = 1.0) -> UInt8s:
    """With this gamma, and this contrast about middle grey."""
    levels = 255 * (np.arange(256) / 255) ** gamma
    return np.asarray(((levels - 128) * contrast + 128).clip(0, 255).astype(np.uint8)[grey])


def cut(grey: UInt8s, left: float, top: float, right: float, bottom: float) -> UInt8s:
    """Without these shares of its width and height."""
    height, width = grey.shape
    rows = slice(round(top * height), height - round(bottom * height))
    return grey[rows, round(left * width) : width - round(right * width)]


def rotated(grey: UInt8s, degrees: float) -> UInt8s:
    """About its center, with black corners."""
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(grey, turn, (width, height), flags=cv2.INTER_LINEAR), np.uint8)


def with_logo(grey: UInt8s, share: float) -> UInt8s:
    """With a white disk of this share of its sides in the lower right corner."""
    height, width = grey.shape
    made = grey.copy()
    axes = (max(1, round(share * width / 2)), max(1, round(share * height / 2)))
    center = (round(width * (0.96 - share / 2)), round(height * (0.96 - share / 2)))
    cv2.ellipse(made, center, axes, 0, 0, 360, 255, -1)
    return made


def with_banner(grey: UInt8s, share: float) -> UInt8s:
    """With a line of white text on black over this share of its height."""
    height, width = grey.shape
    made = grey.copy()
    tall = max(4, round(share * height))
    made[-tall:] = 0
    scale = tall / 45
    place = (round(0.05 * width), height - tall // 4)
    cv2.putText(made, "shared by a friend", place, cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 2)
    return made


def bordered(grey: UInt8s, share: float) -> UInt8s:
    """With a white border of this share of its shorter side."""
    wide = max(1, round(share * min(grey.shape)))
    edges = (wide, wide, wide, wide)
    return np.asarray(cv2.copyMakeBorder(grey, *edges, cv2.BORDER_CONSTANT, value=255), np.uint8)


CHANGES: dict[str, Callable[[UInt8s], UInt8s]] = {
    "same": lambda grey: grey,
    "JPEG 30": lambda grey: as_jpeg(grey, 30),
    "blur 1%": lambda grey: blurred(grey, 0.01),
    "blur 2%": lambda grey: blurred(grey, 0.02),
    "gamma 0.6": lambda grey: toned(grey, 0.6),
    "gamma 1.7": lambda grey: toned(grey, 1.7),
    "contrast 1.5": lambda grey: toned(grey, 1.0, 1.5),
    "cut 3% all round": lambda grey: cut(grey, 0.03, 0.03, 0.03, 0.03),
    "cut 5% all round": lambda grey: cut(grey, 0.05, 0.05, 0.05, 0.05),
    "cut 10% at a corner": lambda grey: cut(grey, 0.1, 0.1, 0.0, 0.0),
    "cut 12% of one side": lambda grey: cut(grey, 0.12, 0.0, 0.0, 0.0),
    "rotated by 2": lambda grey: rotated(grey, 2),
    "rotated by 5": lambda grey: rotated(grey, 5),
    "border 4%": lambda grey: bordered(grey, 0.04),
    "logo 15%": lambda grey: with_logo(grey, 0.15),
    "logo 25%": lambda grey: with_logo(grey, 0.25),
    "banner 12%": lambda grey: with_banner(grey, 0.12),
    "banner 20%": lambda grey: with_banner(grey, 0.2),
    "cut 4%, gamma 1.4, JPEG 50, logo": lambda grey: with_logo(
        as_jpeg(toned(cut(grey, 0.04, 0.04, 0.04, 0.04), 1.4), 50), 0.15
    ),
}


def measured_pictures(pictures: Iterable[tuple[str, bytes]], most: int) -> list[UInt8s]:
    """So many held-out pictures with something to be recognised by, drawn without favour."""
    greys = (grey_picture(body) for _, body in pictures)
    planes = [scaled(grey) for grey in greys if grey is not None]
    planes = [plane for plane in planes if has_detail(squashed(plane, 2 * PLANE_PX))]
    order = np.random.default_rng(0).permutation(len(planes))[:most]
    return [planes[row] for row in order]


def recalls(
    descriptor: CopyDescriptor, pictures: list[UInt8s], distractors: UInt8s
) -> dict[str, tuple[float, float]]:
    """For each change: how many are among the 8 nearest, and the median cosine of copies."""
    wholes = np.stack([squashed(picture, PLANE_PX) for picture in pictures])
    own = descriptor.describe(wholes)
    others = descriptor.describe(distractors)
    found = {}
    for name, change in CHANGES.items():
        altered = np.stack([squashed(change(picture), PLANE_PX) for picture in pictures])
        vectors = descriptor.describe(altered)
        cosines = (vectors * own).sum(1)
        # Pictures beside the copy's own that are nearer; a repeat of it in the set is one too.
        nearer = (vectors @ own.T > cosines[:, None]).sum(1)
        for start in range(0, len(others), 8192):
            nearer += (vectors @ others[start : start + 8192].T > cosines[:, None]).sum(1)
        found[name] = (float((nearer < NEAREST).mean()), float(np.median(cosines)))
    return found


def cpu_us(descriptor: CopyDescriptor, planes: UInt8s) -> float:
    """CPU time a plane, us, the least of five runs: others' work only adds to it."""
    spent = []
    for _ in range(5):
        begun = time.process_time()
        descriptor.describe(planes)
        spent.append(time.process_time() - begun)
    return min(spent) / len(planes) * 1e6


def rounding_cosines(net: CopyNet, planes: UInt8s) -> Float32s:
    """Cosines of descriptors by int8 weights and by float32 ones, of the same planes."""
    white = whitening(net_vectors(net, planes))
    rounded = _described(descriptor_file(net, white), planes)
    return (rounded * _described(descriptor_file(net, white, is_rounded=False), planes)).sum(1)


def _described(body: bytes, planes: UInt8s) -> Float32s:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "descriptor.onnx"
        path.write_bytes(body)
        return CopyDescriptor(path).describe(planes)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(tempfile.gettempdir()) / "overlap_packages"
    parser.add_argument("--folder", type=Path, default=default, help="where packages are kept")
    parser.add_argument("--model", type=Path, default=MODEL_PATH, help="the ONNX file")
    parser.add_argument("--pictures", type=int, default=1000, help="held-out, that are altered")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    descriptor = CopyDescriptor(args.model)
    distractors = distractor_planes(training_tiles(args.folder))
    pictures = measured_pictures(held_out_pictures(args.folder), args.pictures)
    print(f"{len(pictures)} pictures, {len(distractors)} distractors")
    found = recalls(descriptor, pictures, distractors)
    for name, (recall, cosine) in found.items():
        print(f"{name:34} recall@8 {recall:.3f}   median cosine {cosine:.3f}")
    mean = sum(recall for recall, _ in found.values()) / len(found)
    planes = distractors[:TIMED_PLANES]
    print(f"mean {mean:.4f}; {cpu_us(descriptor, planes):.0f} us of CPU a plane", end="")
    print(f"; {args.model.stat().st_size} bytes")
    stored = args.folder / NET_NAME
    if stored.exists():  # where the net was trained
        net = CopyNet()
        net.load_state_dict(torch.load(stored, weights_only=True))
        cosines = rounding_cosines(net, planes)
        print(f"int8 to float32: cosine {cosines.mean():.5f}, at worst {cosines.min():.5f}")


if __name__ == "__main__":
    main(sys.argv[1:])
