"""One image once, in a run and in a finished dataset; and a held-out split without copies."""

import json
import shutil
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image as PillowImage

from alignset.pipeline.deduplicate.__main__ import main
from alignset.transforms.pairs.hold_out import held_out
from tests.support.agreement import check_dataset, rows, stored
from tests.support.command import digests, funnel, manifest, run, succeed
from tests.support.golden import FLAGS as GOLDEN
from tests.support.golden import TEXTS, Fate, columns
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

# Images 0 to 9 are there three times, 10 to 19 twice, and the others once.
COUNT = 40
FLAGS = (*GOLDEN, "--samples_per_shard=6", "--holdout=0.2", "--max_texts_per_image=6")
EXACT, KEPT = (*FLAGS, "--duplicates=exact"), (*FLAGS, "--holdout_copies=keep")
REAL = ("astronaut", "chelsea", "coffee")
PLACEHOLDER = 7  # URLs with the bytes of no image of a host


class Made(NamedTuple):
    """Sets of one web of images with planted copies.

    Attributes:
      source: the pairs. exact, keep: sets with one image a content, and with all.
    """

    source: Path
    exact: Path
    keep: Path


def put_altered(web: SmallWeb) -> list[str]:
    """Real photographs that are held out, and altered copies to train on; returns the URLs."""
    urls = []
    for name in REAL:
        photo = PillowImage.fromarray(getattr(skimage.data, name)()).convert("RGB")
        smaller = photo.resize((photo.width * 2 // 3, photo.height * 2 // 3))
        files = {True: encoded(photo, "JPEG"), False: encoded(smaller, "JPEG", quality=50)}
        for is_held, body in files.items():
            named = (f"/{name}/{n}" for n in count())
            path = next(p for p in named if held_out(pa.array([web.url + p]), 0.2)[0] == is_held)
            web.files[path] = body
            urls.append(web.url + path)
    return urls


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("duplicates")
    with small_web() as web:
        photos = [encoded(photograph(700 + n), "JPEG") for n in range(COUNT)]
        placed = {n: n for n in range(COUNT)}
        placed |= {COUNT + n: n for n in range(20)} | {COUNT + 20 + n: n for n in range(10)}
        web.files |= {f"/{n}": photos[of] for n, of in placed.items()}
        web.files |= {f"/none/{n}": encoded(photograph(999), "JPEG") for n in range(PLACEHOLDER)}
        texts = iter(TEXTS)
        pairs = [Fate(f"{web.url}/{n}", next(texts)) for n in placed]
        # Some copies have the alt-text of the first, some also an own one, some of one image two.
        pairs += [Fate(f"{web.url}/{COUNT + n}", TEXTS[n]) for n in range(0, 20, 2)]
        pairs += [Fate(f"{web.url}/{n}", next(texts)) for n in range(5)]
        pairs += [Fate(f"{web.url}/none/{n}", next(texts)) for n in range(PLACEHOLDER)]
        pairs += [Fate(url, next(texts)) for url in put_altered(web)]
        pq.write_table(columns(pairs), folder / "pairs.parquet")
        succeed(folder / "pairs.parquet", folder / "exact", *EXACT)
        succeed(folder / "pairs.parquet", folder / "keep", *KEPT)
        yield Made(folder / "pairs.parquet", folder / "exact", folder / "keep")


def url_name(row: dict) -> str:
    return row["url"].split("/")[3]


def test_a_content_stays_at_the_url_of_its_smallest_key_with_the_texts_of_that(made: Made):
    check_dataset(made.exact)
    after = {
        row["key"]: (row["url"], row["caption"]) for row in rows(made.exact, "shards", "holdout")
    }
    expected = {}
    training = {row["sha256"] for row in rows(made.keep, "shards")}
    for folder in ("shards", "holdout"):
        there = rows(made.keep, folder)
        first = {row["sha256"]: row["url"] for row in sorted(there, key=lambda r: r["key"])[::-1]}
        for row in there:
            # What is in both is trained on, and so are altered copies.
            is_copy = folder == "holdout" and (row["sha256"] in training or url_name(row) in REAL)
            if row["url"] == first[row["sha256"]] and not is_copy:
                expected[row["key"]] = row["url"], row["caption"]
    assert after == expected
    urls = [url for url, _ in after.values()]
    assert len(urls) > len({*urls}), "an image with two texts"


def test_a_held_out_photograph_leaves_for_an_altered_copy_that_is_trained_on(made: Made):
    training = {row["key"]: row["url"] for row in rows(made.exact, "shards")}
    left = {
        url_name(row): training[row["detail"]].split("/")[3]
        for row in rows(made.exact, "rejected")
        if row["reason"] == "duplicate_of_training" and url_name(row) in REAL
    }
    assert left == {name: name for name in REAL}


def test_a_placeholder_falls_by_its_alt_texts_alone(made: Made):
    for out in (made.exact, made.keep):
        gone = [
            row for row in rows(out, "rejected") if row["reason"] == "image_with_too_many_texts"
        ]
        assert {row["url"].rpartition("/")[0][-5:] for row in gone} == {"/none"}
        assert [(row["step"], row["detail"]) for row in gone] == (
            [("texts_per_content", None)] * PLACEHOLDER
        )


def test_what_leaves_says_which_pair_is_kept(made: Made):
    kept = stored(made.exact)
    copies = [row for row in rows(made.exact, "rejected") if row["step"] == "copies"]
    assert {row["reason"] for row in copies} == {"duplicate_image", "duplicate_of_training"}
    whole = rows(made.keep, "shards", "holdout")
    sha256 = {row["key"]: row["sha256"] for row in whole}
    sizes = {row["key"]: (row["original_width"], row["original_height"]) for row in whole}
    for row in copies:
        assert row["detail"] in kept
        assert (row["width"], row["height"]) == sizes[row["key"]]
        same = sha256[row["key"]] == sha256[row["detail"]]
        assert same == (url_name(row) not in REAL)
    stats = [json.loads(file.read_text()) for file in made.exact.glob("*/*_stats.json")]
    assert all(":" not in end for of in stats for end in of["status_dict"])  # a key is in no count


def test_the_funnel_tells_and_the_report_shows_what_left(made: Made):
    steps = {step["step"]: step["dropped"] for step in funnel(made.exact)["steps"]}
    assert steps["texts_per_content"]["image_with_too_many_texts"] >= PLACEHOLDER
    assert all(steps["copies"].values())
    assert funnel(made.exact)["copies"] == {"images": 0, "contents": 0}
    assert funnel(made.keep)["copies"]["images"] > 20
    assert not any({s["step"]: s["dropped"] for s in funnel(made.keep)["steps"]}["copies"].values())
    near = funnel(made.keep)["near_duplicates"]
    # Two thirds the size and half the quality: of three pairs some share a hash, each rightly.
    assert near["alike"] == near["compared"] == near["images"] // 2
    assert "3 URLs" in (made.keep / "report.html").read_text()


def shard_files(out: Path) -> list[tuple[str, str]]:
    named = ((Path(name), digest) for name, digest in digests(out).items())
    kinds = (".tar", ".parquet")
    return sorted(
        (str(path.parent), digest)
        for path, digest in named
        if path.suffix in kinds and path.parent.name in ("shards", "holdout")
    )


def test_deduplicate_makes_the_shards_of_a_run_with_exact(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture
):
    out = Path(shutil.copytree(made.keep, tmp_path / "set"))
    assert main([str(out), "--dry_run"]) == 0
    assert "would leave: " in capsys.readouterr().out
    assert digests(out) == digests(made.keep)
    assert main([str(out)]) == 0
    assert "left: " in capsys.readouterr().out
    check_dataset(out)
    # Each shard is there, under another number where one was emptied.
    assert shard_files(out) == shard_files(made.exact)
    (entry,) = manifest(out)["deduplications"]
    assert sum(entry["dropped"].values()) == manifest(made.keep)["pairs"] - manifest(out)["pairs"]
    assert "## Duplicates" in (out / "README.md").read_text()
    assert "because of an opt-out" not in (out / "README.md").read_text().partition("## Licence")[0]
    before = digests(out)
    assert main([str(out)]) == 0
    assert "nothing was changed" in capsys.readouterr().out
    assert digests(out) == before


def test_what_cannot_be_done_is_one_line(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = Path(shutil.copytree(made.keep, tmp_path / "set"))
    tar = sorted(out.glob("shards/*.tar"))[1]
    tar.unlink()
    before = digests(out)
    for args, said in (
        ([str(out)], f"{tar} is missing"),
        ([str(tmp_path / "no")], "there is no folder"),
    ):
        assert main(args) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count("\n") == 1
    assert digests(out) == before
    ended = run(made.source, tmp_path / "x", *FLAGS, "--duplicates=alike")
    assert (ended.status, "must be one of keep, exact, near; got" in ended.err) == (2, True)
