"""Folders of other tools: what a report, a look and a takedown are given of them."""

import hashlib
import json
import shutil
from pathlib import Path
from tarfile import GNU_FORMAT

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.pipeline.datasets.facts import Facts, find_facts
from alignset.pipeline.datasets.folder_samples import FolderShard, shard_samples
from alignset.pipeline.datasets.folders import read_folder
from alignset.pipeline.datasets.set_files import find_set
from alignset.pipeline.look.shown_pairs import find_pairs, find_pictures
from alignset.pipeline.report.comparison import write_comparison
from alignset.pipeline.report.page import render_page
from alignset.pipeline.takedown.__main__ import main as takedown
from alignset.transforms.columns.records import KEPT
from alignset.transforms.storage.tar_members import tar_members
from tests.support.golden_run import Golden
from tests.support.hostile_tars import tar_of
from tests.support.picture_files import encoded, photograph

ROWS = 20_000
GONE = "HTTP Error 404: Not Found"
PICTURES = [encoded(photograph(n, 60 + 20 * n, 80), "JPEG") for n in range(5)]
PICTURES.append(PICTURES[0])  # the same bytes at another URL


def row(n: int, **more: object) -> dict[str, object]:
    said = {"url": f"http://h.org/{n}.jpg", "caption": f"a red boat number {n}", "key": f"{n:07d}"}
    return said | {"status": "success", "error_message": None, "similarity": n / 10} | more


def sample(n: int) -> dict[str, bytes]:
    said = row(n)
    return {
        f"{n:07d}.jpg": PICTURES[n],
        f"{n:07d}.json": json.dumps(said).encode(),
        f"{n:07d}.txt": str(said["caption"]).encode(),
    }


def put_folder(folder: Path, *, as_files: bool = False) -> Path:
    """Two shards as img2dataset writes them, whose samples are in no order."""
    folder.mkdir()
    for number, kept in enumerate([(2, 0, 1), (5, 3, 4)]):
        files = {name: body for n in kept for name, body in sample(n).items()}
        if as_files:
            (folder / f"{number:05d}").mkdir()
            for name, body in files.items():
                (folder / f"{number:05d}" / name).write_bytes(body)
        else:
            (folder / f"{number:05d}.tar").write_bytes(tar_of(files))
        lost = [
            row(10 + number, status="failed_to_download", error_message=GONE),
            row(20 + number, status="failed_to_resize", error_message="Image decoding error"),
        ]
        rows = [*map(row, kept), *lost]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{number:05d}.parquet")
        stats = {"count": 5, "successes": 3, "failed_to_download": 1, "failed_to_resize": 1}
        (folder / f"{number:05d}_stats.json").write_text(json.dumps(stats))
    (folder / "README").write_text("ours")
    return folder


@pytest.fixture(scope="module", params=["tars", "files"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("folders") / str(request.param)
    return put_folder(place, as_files=request.param == "files")


def counts(facts: Facts, name: str) -> int:
    """How many pairs have a place on an axis."""
    axis = facts.records.images.axis(name)
    histogram = facts.records.images.whole.histograms[name]
    none = str(axis.no_value) if axis else ""
    return sum(n for of in histogram.values() for place, n in of.items() if place != none)


def test_a_report_tells_of_images_scores_copies_and_failures(folder: Path):
    facts = find_facts(str(folder))
    assert (facts.kept, facts.seen, facts.shards) == (6, 10, 2)
    assert facts.dropped == {"fetch_failed": 2, "undecodable": 2}
    assert facts.details["images", "fetch_failed"] == {GONE: 2}
    assert {name: counts(facts, name) for name in ("side", "aspect", "similarity")} == {
        "side": 6,
        "aspect": 6,
        "similarity": 6,
    }
    assert facts.records.images.whole.histograms["words"][KEPT] == {"5": 6}
    assert facts.copies
    assert (facts.copies.images, facts.copies.contents) == (2, 1)
    (group,) = facts.copy_groups
    assert group.picture
    examples = facts.records.images.examples()[KEPT]
    assert {e.values["similarity"] for e in examples} == {n / 10 for n in range(6)}
    page = render_page(facts)
    for said in ("similarity", "Words of the text", "2 images have the bytes of another", GONE):
        assert said in page
    # Without a rule the page has no threshold, and no axis that reaches a rule's default.
    assert "--max_words" not in page
    assert "these rules judged" not in page
    assert ">1e+" not in page
    assert page.count('"picture":') == 6
    assert "near:min" not in page
    assert str(facts.out) not in page


def test_a_look_finds_images_in_the_folder_itself(folder: Path):
    files = find_set(str(folder))
    pairs, note = find_pairs(files, "", 9)
    pictures = find_pictures(pairs, files, [])
    assert [[type(body) for _, body in of] for of in pictures] == [[bytes]] * 6
    assert note == "6 kept pairs, from 2 of 2 shards"
    lost, _ = find_pairs(files, f"fetch_failed:{GONE}", 9)
    assert {pair.caption for pair in lost} == {f"a red boat number {n}" for n in (10, 11)}


def names_in(folder: Path) -> set[str]:
    """The samples whose images are in a folder."""
    found = {path.stem for path in folder.glob("*/*.jpg")}
    for path in folder.glob("*.tar"):
        with path.open("rb") as source:
            found |= {m.name[:-4] for m in tar_members(source) if m.name.endswith(".jpg")}
    return found


def test_a_takedown_copies_what_stays_or_changes_the_folder_itself(folder: Path, tmp_path: Path):
    blocklist = tmp_path / "list.txt"
    sha256 = hashlib.sha256(PICTURES[2]).hexdigest()
    blocklist.write_text(f"url:http://h.org/3.jpg\nsha256:{sha256}\ntext:boat number 11\n")
    words = [str(folder), f"--blocklist={blocklist}"]
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    (folder / "report.html").write_text("a report with an image of what is listed")
    before[folder / "report.html"] = (folder / "report.html").read_bytes()
    for wrong in ([], ["--in_place"], ["--yes"], [f"--output={folder}"]):
        assert takedown([*words, *wrong]) == 2
    assert takedown([*words, "--dry_run"]) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    new, place = tmp_path / "new", tmp_path / "place"
    assert takedown([*words, f"--output={new}"]) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    shutil.copytree(folder, place)
    assert takedown([str(place), words[1], "--in_place", "--yes"]) == 0
    for written in (new, place):
        assert names_in(written) == {f"{n:07d}" for n in (0, 1, 4, 5)}
        assert not (written / "report.html").exists()
        tables = [pq.read_table(path) for path in sorted(written.glob("*.parquet"))]
        kept = {key for table in tables for key in table["key"].to_pylist()}
        assert kept == {f"{n:07d}" for n in (0, 1, 4, 5, 10, 20, 21)}
        stats = json.loads((written / "00001_stats.json").read_text())
        assert (stats["count"], stats["successes"], stats["failed_to_download"]) == (3, 2, 0)
        assert stats["status_dict"] == {"success": 2, "Image decoding error": 1}
        assert (written / "README").read_text() == "ours"
    assert find_facts(str(new)).kept == 4


def test_counts_without_a_sidecar_outlive_a_kill_before_the_images(tmp_path: Path) -> None:
    folder, new = put_folder(tmp_path / "shards"), tmp_path / "new"
    for path in folder.glob("*.parquet"):
        path.unlink()
    (tmp_path / "list.txt").write_text("url:http://h.org/3.jpg\n")
    words = [str(folder), f"--blocklist={tmp_path / 'list.txt'}"]
    assert takedown([*words, f"--output={new}"]) == 0
    written = (new / "00001_stats.json").read_bytes()
    assert [json.loads(written)[name] for name in ("count", "successes")] == [4, 2]
    (folder / "00001_stats.json").write_bytes(written)  # as a command leaves it that is killed then
    assert takedown([*words, "--in_place", "--yes"]) == 0
    again = json.loads((folder / "00001_stats.json").read_bytes())
    assert [again[name] for name in ("count", "successes", "status_dict")] == [4, 2, {}]


def test_a_folder_is_compared_with_a_dataset_by_url_and_caption(golden: Golden, tmp_path: Path):
    """The shards of one without its documents, and without its own keys, are another tool's."""
    folder, page = tmp_path / "theirs", tmp_path / "compare.html"
    folder.mkdir()
    pairs = 0
    for tar in sorted((golden.output / "shards").glob("*.tar"))[:2]:
        with tar.open("rb") as source:
            members = [
                (m.name, (source.seek(m.at), source.read(m.size))[1]) for m in tar_members(source)
            ]
        (folder / tar.name).write_bytes(tar_of({f"x{name}": body for name, body in members}))
        pairs += len(members) // 3
    write_comparison(str(folder), str(golden.output), str(page))
    told = page.read_text()
    assert f"{pairs:,}" in told
    facts = find_facts(str(folder))
    assert facts.kept == pairs
    mine, ours = (
        {
            key
            for path in place.glob("shards/*.parquet")
            for key in pq.read_table(path)["key"].to_pylist()
        }
        for place in (Path(facts.out), golden.output)
    )
    assert mine < ours


def test_what_a_folder_lacks_or_what_is_broken_in_it_costs_itself(tmp_path: Path):
    whole = tar_of(sample(0) | sample(1) | {"2.jpg": PICTURES[2]} | {"3.txt": b"a text alone"})
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "x.tar").write_bytes(whole)
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    facts = find_facts(str(tmp_path))
    assert [note for note in facts.notes if "cannot be read to its end" in note] != []
    assert facts.kept >= 3
    assert facts.dropped["not_an_image"] == 1
    assert "2" not in {e.url for e in facts.records.images.examples()[KEPT]}
    # A takedown may not pass over what it cannot read.
    blocklist = tmp_path / "list.txt"
    blocklist.write_text("url:http://h.org/0.jpg\n")
    words = [str(tmp_path), f"--blocklist={blocklist}", f"--output={tmp_path}-new"]
    assert takedown(words) == 2


def test_a_long_text_that_is_repeated_is_in_memory_once(tmp_path: Path):
    repeated = pa.DictionaryArray.from_arrays(np.zeros(ROWS, np.int32), ["x" * 20_000])
    urls = [f"http://h{n % 3}.org/{n}" for n in range(ROWS)]
    table = pa.table({"key": [f"{n}" for n in range(ROWS)], "url": urls, "caption": repeated})
    pq.write_table(table, tmp_path / "0.parquet", store_schema=False)
    (tmp_path / "0.tar").write_bytes(tar_of({}))
    before = pa.default_memory_pool().max_memory()
    shard = FolderShard(str(tmp_path / "0.tar"), str(tmp_path / "0.parquet"))
    samples = list(shard_samples(shard))
    assert pa.default_memory_pool().max_memory() - before < 100_000_000
    assert len(samples) == ROWS
    assert {len(s.caption) for s in samples} == {2000}


def test_columns_of_other_types_or_that_are_there_twice_are_left_out(tmp_path: Path):
    columns = [["a"], [["x"]], [None], ["7"], [1 << 80 if False else 3], [float("nan")]]
    names = ["key", "caption", "url", "url", "width", "score"]
    table = pa.Table.from_arrays([pa.array(c) for c in columns], names=names)
    pq.write_table(table, tmp_path / "0.parquet")
    (tmp_path / "0.tar").write_bytes(tar_of({"a.jpg": PICTURES[0]}))
    folder = read_folder(str(tmp_path))
    assert folder is not None
    assert folder.catalogue.custom == ()
    assert find_facts(str(tmp_path)).kept == 1


def test_joined_tars_and_names_that_are_not_utf_8_are_read_whole(tmp_path: Path):
    odd = [{f"\udcff{name}": body for name, body in sample(n).items()} for n in (2, 3)]
    parts = [tar_of(files, GNU_FORMAT) for files in (sample(0) | sample(1), *odd)]
    (tmp_path / "0.tar").write_bytes(b"".join(parts))
    facts = find_facts(str(tmp_path))
    assert (facts.kept, facts.notes[1:]) == (4, [])
    files = find_set(str(tmp_path))
    pictures = find_pictures(find_pairs(files, "", 9)[0], files, [])
    assert [[type(body) for _, body in of] for of in pictures] == [[bytes]] * 4
