"""Images that are on a list: by their bytes, and by how they look."""

import hashlib
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import imagehash
import numpy as np
import pytest
from PIL import Image as PillowImage

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.blocklists.compiled_list import compile_list
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.shards.blocked_images import blocked_by
from tests.support.picture_files import encoded, photograph


def lists(folder: Path, *entries: str) -> Blocklists:
    (folder / "l.txt").write_text("\n".join(entries))
    return Blocklists((compile_list(str(folder / "l.txt"), str(folder)),))


def asked(found: Blocklists, body: bytes) -> str | None:
    image = examine(body)
    assert isinstance(image, Image)
    return blocked_by(found, FileLook(body), hashlib.sha256(body).digest(), image)


PHOTO = encoded(photograph(1, 600, 400), "JPEG")


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
def test_by_its_bytes(tmp_path: Path, kind: str) -> None:
    found = lists(tmp_path, f"{kind}:{hashlib.new(kind, PHOTO).hexdigest()}")
    assert asked(found, PHOTO) == f"l.txt:{kind}"
    assert asked(found, PHOTO + b"\0") is None


@pytest.mark.parametrize("size", [(600, 400), (60, 40)])
def test_by_how_it_looks_as_others_hash_it(tmp_path: Path, size: tuple[int, int]) -> None:
    """The hash of the plane that a JPEG is hashed from may be far from that of imagehash."""
    seed = int(np.random.SeedSequence().entropy % 2**32)
    print("seed", seed)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    body = encoded(PillowImage.fromarray(pixels), "JPEG")
    whole = imagehash.phash(PillowImage.open(io.BytesIO(body)))
    found = lists(tmp_path, f"phash:{whole}")
    quick = examine(body)
    assert isinstance(quick, Image)
    off = (int(str(whole), 16) ^ int(quick.phash)).bit_count()  # of noise now and then 8 bits
    for least in (found.min_phash_distance, 1):
        lists_of = Blocklists(found.lists, min_phash_distance=least)
        expected = "l.txt:phash" if off < least + k.QUICK_ERROR else None
        assert asked(lists_of, body) == expected
    assert asked(found, encoded(photograph(2, *size), "PNG")) is None


def test_pdq_is_asked_for_where_a_list_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def compute(pixels: np.ndarray) -> tuple[list[int], int]:
        calls.append(pixels)
        return [1] * 31 + [0] * 225, 100

    monkeypatch.setitem(sys.modules, "pdqhash", SimpleNamespace(compute=compute))
    assert asked(lists(tmp_path, f"pdq:{'0' * 64}"), PHOTO) == "l.txt:pdq"  # 31 bits
    assert asked(lists(tmp_path, f"pdq:{'0' * 63}1"), PHOTO) is None
    assert len(calls) == 2
    assert asked(lists(tmp_path, "host:a.example"), PHOTO) is None
    assert len(calls) == 2
