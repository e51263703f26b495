"""Boxes of a column, blurred in whole runs: what is stored, what stays, and what grows."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PillowImage

from tests.support.agreement import rows
from tests.support.command import digests, grow, manifest, run, samples, succeed
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb

FLAGS = (
    *("--allow_private_addresses", "--max_unsafe_score=1", "--min_image_side=1", "--retries=0"),
    *("--language=", "--robots_txt=false", "--blur_boxes=face_bboxes"),
)
LEFT, RIGHT = [0.1, 0.2, 0.4, 0.8], [0.6, 0.2, 0.9, 0.8]
BOXES = pa.list_(pa.list_(pa.float32()))


def table(path: Path, web: SmallWeb, *pairs: tuple[int, Any]) -> Path:
    """Pairs of an image's number, and its boxes."""
    for number, _ in pairs:
        pixels = np.asarray(photograph(number)).astype(int)
        pixels[:, ::4] += 70  # fine lines, of which a blur leaves nothing
        picture = PillowImage.fromarray(pixels.clip(0, 255).astype(np.uint8))
        web.files[f"/faces/{number}"] = encoded(picture, "JPEG", quality=95)
    columns = {
        "url": [f"{web.url}/faces/{number}" for number, _ in pairs],
        "text": [f"a photo of person {row} at {path.stem}" for row in range(len(pairs))],
        "face_bboxes": pa.array([boxes for _, boxes in pairs], BOXES),
    }
    pq.write_table(pa.table(columns), path)
    return path


def changed(out: Path, web: SmallWeb) -> dict[int, tuple[bool, bool]]:
    """Of each image in the tars: whether its left and its right face differ from what came, by
    more than a JPEG does."""
    found = {}
    for row in rows(out, "shards"):
        number = int(row["url"].rpartition("/")[2])
        came = web.files[f"/faces/{number}"]
        assert row["sha256"] == hashlib.sha256(came).hexdigest()  # of what came
        stored = samples(out)[row["key"]]["jpg"]
        new, old = (
            np.asarray(PillowImage.open(io.BytesIO(of))).astype(int) for of in (stored, came)
        )
        difference = np.abs(new - old).mean(axis=2)
        middle = difference.shape[1] // 2
        found[number] = difference[:, :middle].mean() > 6, difference[:, middle:].mean() > 6
        assert any(found[number]) or stored == came
    return found


def test_boxes_are_blurred_once_and_known_later(web: SmallWeb, tmp_path: Path) -> None:
    first = [(1, [LEFT]), (2, None), (3, []), (4, [[20, 30, 80, 90]]), (5, [LEFT]), (5, [RIGHT])]
    one = table(tmp_path / "one.parquet", web, *first, (6, [LEFT]))
    two = table(tmp_path / "two.parquet", web, (7, [RIGHT]), (6, [RIGHT]), (1, [LEFT]), (2, []))
    succeed(one, tmp_path / "out", *FLAGS)
    both, neither = (True, True), (False, False)
    expected = {1: (True, False), 2: neither, 3: neither, 5: both, 6: (True, False)}
    assert changed(tmp_path / "out", web) == expected
    (dropped,) = rows(tmp_path / "out", "rejected")
    assert (dropped["reason"], dropped["detail"]) == ("undecodable", "bad_boxes")
    assert dropped["face_bboxes"] == [[20, 30, 80, 90]]
    assert "/faces/4" not in web.requests
    assert manifest(tmp_path / "out")["columns"]["face_bboxes"] == {"list": {"list": "float32"}}
    card = " ".join((tmp_path / "out/README.md").read_text().split())
    assert "the boxes that the input has in `face_bboxes` were blurred" in card
    assert "or are PNG where trainers could not read these, but for those with boxes" in card
    asked = len(web.requests)
    assert grow(tmp_path / "out", tmp_path / "grown", f"--input={two}", FLAGS[0]).status == 0
    assert sorted(web.requests[asked:]) == ["/faces/6", "/faces/7"]  # whose boxes are others
    succeed(f"{one},{two}", tmp_path / "whole", *FLAGS)
    tars = [
        {n: of for n, of in digests(tmp_path / out).items() if n.startswith("shards/")}
        for out in ("grown", "whole")
    ]
    assert tars[0] == tars[1]
    assert changed(tmp_path / "grown", web) == expected | {6: both, 7: (False, True)}
    # Where nothing is to be blurred, a blurred file is requested, and the others are not.
    asked = len(web.requests)
    plain = ("--columns=face_bboxes", f"--images_from={tmp_path / 'out'}")
    succeed(one, tmp_path / "plain", *FLAGS[:-1], *plain)
    assert sorted(web.requests[asked:]) == ["/faces/1", "/faces/4", "/faces/5", "/faces/6"]
    assert {*changed(tmp_path / "plain", web).values()} == {neither}
    resized = (*FLAGS, "--resize_mode=keep_ratio", "--image_size=64")
    succeed(one, tmp_path / "small", *resized)
    asked = len(web.requests)
    assert grow(tmp_path / "small", tmp_path / "small2", f"--input={two}", FLAGS[0]).status == 0
    assert sorted(web.requests[asked:]) == ["/faces/6", "/faces/7"]


def test_columns_that_hold_no_boxes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    for kind, value in ((pa.string(), "[[0,0,1,1]]"), (pa.list_(pa.float64()), [0.0] * 4)):
        columns = {"url": ["http://a/1"], "text": ["a photo of a dog"]}
        pq.write_table(pa.table(columns | {"face_bboxes": pa.array([value], kind)}), path)
        ended = run(path, tmp_path / "out", *FLAGS)
        assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
        assert "--blur_boxes takes a column of lists of boxes" in ended.err
    assert (
        "no input file has a column 'faces'"
        in run(path, tmp_path / "out", "--blur_boxes=faces").err
    )
    flags = ("--text_only", "--blur_boxes=face_bboxes")
    assert (
        "--blur_boxes has no effect, since --text_only" in run(path, tmp_path / "out", *flags).err
    )
