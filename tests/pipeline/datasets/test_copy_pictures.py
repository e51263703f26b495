"""What is told of copies by reading images: of a shard with flat and altered images."""

import base64
import io
from pathlib import Path

import skimage.data
from PIL import Image as PillowImage

from alignset.pipeline.datasets.copy_pictures import look_at_copies
from alignset.transforms.shards.shard_files import TarWriter
from alignset.transforms.shards.shard_stats import ContentGroup, Copies, NearDuplicates, NearPair
from tests.support.picture_files import encoded


def test_pairs_that_show_one_picture_are_told_from_flat_ones_and_groups_are_drawn(tmp_path: Path):
    photo = PillowImage.fromarray(skimage.data.chelsea()).convert("RGB")
    bodies = [
        encoded(photo, "JPEG", quality=90),
        encoded(photo.resize((photo.width // 2, photo.height // 2)), "JPEG", quality=50),
        encoded(PillowImage.new("RGB", (300, 220), "navy"), "JPEG"),
        encoded(PillowImage.new("RGB", (300, 220), "olive"), "PNG"),
        b"no picture",
    ]
    (tmp_path / "shards").mkdir()
    with (tmp_path / "shards/00000.tar").open("wb") as sink:
        tar = TarWriter(sink)
        for key, body in enumerate(bodies):
            tar.add((f"{key:016x}.jpg", body), (f"{key:016x}.txt", b"text"))
        tar.finish()
    places = [(0, f"{key:016x}") for key in range(6)]
    pairs = [NearPair(1, places[0], places[1]), NearPair(2, places[2], places[3])]
    pairs += [NearPair(3, places[0], places[4]), NearPair(4, places[0], places[5])]
    groups = [ContentGroup(9, "ab", *places[0]), ContentGroup(5, "cd", *places[4])]
    found = look_at_copies(str(tmp_path), Copies(near=40, near_pairs=pairs, groups=groups))
    assert found.near == NearDuplicates(40, compared=2, alike=1)
    assert found.near.estimate == 20
    drawn, without = found.groups
    assert max(PillowImage.open(io.BytesIO(base64.b64decode(drawn.picture))).size) == 96
    assert (drawn.images, without.images, without.picture) == (9, 5, "")
