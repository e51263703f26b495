"""A set that holds images already is filtered by evaluation images: the whole command."""

import io
import json
import logging
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
from PIL import Image as PillowImage

from alignset.pipeline.commands import look, takedown
from alignset.pipeline.datasets.facts import find_facts
from alignset.pipeline.errors import UsageError
from alignset.pipeline.options import parse
from alignset.pipeline.report.page import all_lists, read_pictures
from tests.support.agreement import rows
from tests.support.command import funnel, kept, manifest, run, succeed
from tests.support.hostile_tars import write_tar
from tests.support.picture_files import encoded

ALL = ("--language=", "--min_words=1", "--max_unsafe_score=1")
EXAM = ("astronaut", "chelsea", "coffee", "camera")
OTHERS = ("rocket", "moon", "coins")


def picture(name: str) -> PillowImage.Image:
    return PillowImage.fromarray(getattr(skimage.data, name)()).convert("RGB")


def altered() -> dict[str, bytes]:
    """Copies of the exam's images as people make them, by the name of the image."""
    astronaut, cat, coffee, camera = map(picture, EXAM)
    wide = PillowImage.new("RGB", (512, 700), "black")
    wide.paste(camera, (0, 94))
    return {
        "astronaut": encoded(astronaut.resize((300, 300)), "JPEG", quality=60),
        "chelsea": encoded(cat.transpose(PillowImage.Transpose.FLIP_LEFT_RIGHT), "WEBP"),
        "coffee": encoded(coffee.crop((15, 10, 585, 390)), "PNG"),
        "camera": encoded(wide, "JPEG"),
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard as img2dataset writes them, and a folder, a tar and Parquet of evaluation images."""
    folder = tmp_path_factory.mktemp("decontamination")
    bodies = altered() | {name: encoded(picture(name), "JPEG") for name in OTHERS}
    members: dict[str, bytes] = {}
    for key, (name, body) in enumerate(bodies.items()):
        about = {"url": f"http://a.example/{name}.jpg", "caption": f"a picture of {name}"}
        members |= {
            f"{key:09}.jpg": body,
            f"{key:09}.json": json.dumps(about).encode(),
            f"{key:09}.txt": about["caption"].encode(),
        }
    write_tar(folder / "00000.tar", members)
    exams = {name: encoded(picture(name), "PNG") for name in EXAM}
    (folder / "exam").mkdir()
    (folder / "exam" / "astronaut.png").write_bytes(exams["astronaut"])
    (folder / "exam" / "broken.png").write_bytes(exams["astronaut"][:900])
    write_tar(folder / "exam.tar", {"animals/chelsea.png": exams["chelsea"]})
    images = [{"bytes": exams[name], "path": f"{name}.png"} for name in ("coffee", "camera")]
    pq.write_table(pa.table({"image": images}), folder / "exam.parquet")
    return folder


def exam(folder: Path) -> str:
    return (
        f"--eval_images=people={folder}/exam,animals={folder}/exam.tar,things={folder}/exam.parquet"
    )


def shards(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "shards").iterdir()}


def overlaps(out: Path) -> dict[str, dict]:
    found = [row for row in rows(out, "rejected") if row["reason"] == "evaluation_overlap"]
    return {Path(row["url"]).stem: row for row in found}


@pytest.fixture(scope="module")
def clean(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A set beside the folder of its index, and what was said of it."""
    folder = tmp_path_factory.mktemp("clean")
    log, said = logging.getLogger("alignset"), io.StringIO()
    handler = logging.StreamHandler(said)
    log.addHandler(handler)
    flags = (*ALL, exam(source), f"--eval_index={folder}/indexes")
    succeed(source / "00000.tar", folder / "set", *flags)
    log.removeHandler(handler)
    return folder / "set", said.getvalue()


def test_copies_are_dropped_named_and_shown(
    source: Path, clean: tuple[Path, str], tmp_path: Path
) -> None:
    out, warned = clean
    found = overlaps(out)
    assert {
        name: (row["evaluation_set"], row["evaluation_image"]) for name, row in found.items()
    } == {
        "astronaut": ("people", "astronaut.png"),
        "chelsea": ("animals", "exam.tar/animals/chelsea.png"),
        "coffee": ("things", "exam.parquet/coffee.png"),
        "camera": ("things", "exam.parquet/camera.png"),
    }
    said = manifest(out)
    least = said["rules"]["min_evaluation_distance"]
    for row in found.values():
        assert 0 <= row["evaluation_distance"] < least
        assert json.loads(row["evaluation_numbers"])["cosine"] > 0.5
        assert PillowImage.open(io.BytesIO(row["thumbnail"])).format == "JPEG"
    facts = find_facts(str(out))
    places = [example.place for example in all_lists(facts)["evaluation_overlap"]]
    pictures = read_pictures(facts.files, places)
    assert pictures.keys() == {*places}
    assert all(pictures.values())
    left = pq.read_table(out / "shards" / "00000.parquet").to_pylist()
    assert {Path(row["url"]).stem for row in left} == set(OTHERS)
    assert all(
        row["evaluation_distance"] is None or row["evaluation_distance"] >= least for row in left
    )
    assert said["evaluation_images"]["people"] == {"images": 1, "unreadable": 1}
    assert "broken.png" in warned
    assert funnel(out)["pairs"] == len(OTHERS)

    sheet = tmp_path / "look.html"
    assert look([str(out), "--reason=evaluation_overlap", exam(source), f"--output={sheet}"]) == 0
    page = sheet.read_text()
    assert page.count("data:image/jpeg") == 2 * page.count(">evaluation image<") > 0


def test_an_index_serves_other_runs_without_its_images(
    source: Path, clean: tuple[Path, str], tmp_path: Path
) -> None:
    first, folder = clean[0], clean[0].parent / "indexes"
    second, third = tmp_path / "second", tmp_path / "third"
    tar = source / "00000.tar"
    (index,) = folder.iterdir()
    made = {path.name: path.stat().st_mtime_ns for path in index.iterdir()}
    succeed(tar, second, *ALL, exam(source), f"--eval_index={folder}")
    assert {path.name: path.stat().st_mtime_ns for path in index.iterdir()} == made
    succeed(tar, third, *ALL, f"--eval_index={index}")
    assert shards(first) == shards(second) == shards(third)
    assert kept(first) == kept(third)
    assert overlaps(first).keys() == overlaps(third).keys()
    assert manifest(first)["evaluation_index"] == manifest(third)["evaluation_index"] == index.name
    assert manifest(third)["evaluation"] == []
    again = run(tar, third, *ALL, f"--eval_index={index}")
    assert (again.status, "nothing to do" in again.err) == (0, True)
    other = run(tar, third, *ALL, exam(source), f"--eval_index={folder}")
    assert (other.status, other.err.count("\n")) == (2, 1), other.err
    assert "holds another run" in other.err


def test_all_columns_stay_where_nothing_but_copies_is_dropped(tmp_path: Path) -> None:
    """Scores of whole numbers in the first 100 samples, and then one that is not."""
    members, rows = {}, []
    for n in range(103):
        key = f"{n:05d}"
        about = {"key": key, "url": f"http://a.example/{n}.png", "score": n, "sha256": "ab"}
        about |= {"boxes": [[0.1, n]]}
        if n == 102:
            about["score"] = "none"
        members |= {f"{key}.png": encoded(picture("moon").resize((40 + n, 40)), "PNG")}
        members |= {f"{key}.json": json.dumps(about).encode(), f"{key}.txt": f"moon {n}".encode()}
        rows.append(about)
    tar = write_tar(tmp_path / "00000.tar", members)
    out = tmp_path / "set"
    (tmp_path / "exam").mkdir()
    (tmp_path / "exam" / "1.png").write_bytes(encoded(picture("rocket"), "PNG"))
    flags = ("--decontaminate_only", f"--eval_images=exam={tmp_path}/exam")
    ended = succeed(tar, out, *flags)
    assert (
        "samples get keys of alignset's own; --columns=all,input_key carries the old" in ended.err
    )
    kept_rows = {row["url"]: row for row in pq.read_table(out / "shards/00000.parquet").to_pylist()}
    assert len(kept_rows) == len(rows)
    for row in rows:
        score = None if row["score"] == "none" else row["score"]
        assert kept_rows[row["url"]]["score"] == score
        assert kept_rows[row["url"]]["boxes"] == row["boxes"]
    keyed = tmp_path / "keyed"
    succeed(tar, keyed, *flags, "--columns=all,input_key")
    (table,) = (pq.read_table(path) for path in keyed.glob("shards/*.parquet"))
    assert sorted(table["input_key"].to_pylist()) == sorted(row["key"] for row in rows)
    bare = tmp_path / "bare"
    succeed(tar, bare, *flags, "--columns=")
    assert "score" not in pq.read_table(bare / "shards/00000.parquet").column_names


def test_nothing_but_copies_is_dropped(source: Path, tmp_path: Path) -> None:
    tiny = encoded(picture("moon").resize((64, 9)), "PNG")
    about = json.dumps({"url": "http://a.example/tiny.png", "caption": "Ein zu kurzer"}).encode()
    members = {"1.png": tiny, "1.json": about, "1.txt": b"Ein"}
    tar = write_tar(tmp_path / "00001.tar", members)
    out = tmp_path / "set"
    ended = succeed(f"{source}/00000.tar,{tar}", out, "--decontaminate_only", exam(source))
    assert {row["reason"] for row in rows(out, "rejected")} == {"evaluation_overlap"}
    assert {Path(fate.url).stem for fate in kept(out)} == {*OTHERS, "tiny"}
    assert f"--eval_index={out}.eval_index uses the index" in ended.err
    report = (out / "report.html").read_text()
    assert re.findall(r'data-rule="(\w+)"|<option value="(min_\w+|max_\w+)"', report) == [
        ("min_evaluation_distance", ""),
        ("", "min_evaluation_distance"),
    ]
    assert "A smaller least side" not in report
    stricter = tmp_path / "stricter"
    succeed(out, stricter, "--decontaminate_only", exam(source), "--min_image_side=10")
    assert {row["reason"] for row in rows(stricter, "rejected")} == {"too_small"}
    assert 'data-rule="min_image_side"' in (stricter / "report.html").read_text()


def test_scores_are_added_and_nothing_is_dropped(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "scored"
    ended = succeed(source / "00000.tar", out, "--score_only", exam(source))
    scored = {
        Path(row["url"]).stem: row
        for row in pq.read_table(out / "shards/00000.parquet").to_pylist()
    }
    assert scored.keys() == {*EXAM, *OTHERS}
    assert rows(out, "rejected") == []
    for name, row in scored.items():
        assert 0 <= row["unsafe_score"] <= 1
        assert len(row["phash"]) == 16
        assert (row["evaluation_distance"] < 0.25) == (name in EXAM)
    assert "nothing dropped: blocklist, duplicates, language" in ended.out
    card = (out / "README.md").read_text()
    assert "alignset added scores and hashes to existing pairs. No filter was applied" in card
    assert "No image was dropped for them" in card
    assert "was dropped for its score by" in card
    assert "--score_only" in card
    assert "the filters of" not in card
    assert "filters of ALIGN" not in (out / "croissant.json").read_text()
    both = run(source / "00000.tar", out, "--score_only", "--decontaminate_only", exam(source))
    assert "pass one of them" in both.err
    # The page's command applies thresholds: --score_only opens each rule but those that it adds.
    page = (out / "report.html").read_text()
    assert {*re.findall(r'data-rule="(\w+)"', page)} >= {"min_evaluation_distance"}
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["command"][:3] == ["alignset curate", "--input=OUT", "--output=NEW"]
    words = [word.replace("OUT", str(out)) for word in data["command"][3:]]
    flags = [word for word in words if not word.startswith("--eval_images=")]
    assert "--score_only" in flags
    new = tmp_path / "new"
    succeed(out, new, *flags, exam(source), "--min_evaluation_distance=0.25")
    assert overlaps(new).keys() == {*EXAM}
    assert {Path(fate.url).stem for fate in kept(new)} == {*OTHERS}


def test_listed_images_are_blocked_shown_and_taken_down(source: Path, tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    listed.mkdir()
    for name in EXAM[:3]:
        (listed / f"{name}.png").write_bytes(encoded(picture(name), "PNG"))
    (listed / "rocket.jpg").write_bytes(encoded(picture("rocket"), "JPEG"))
    blocklist = f"--blocklist=listed=image:{listed}"
    out, whole, hosts = tmp_path / "blocked", tmp_path / "whole", tmp_path / "hosts.txt"
    succeed(source / "00000.tar", out, *ALL, blocklist)
    expected = dict.fromkeys(EXAM[:3], "listed:image") | {"rocket": "listed:sha256"}
    found = {Path(row["url"]).stem: row for row in rows(out, "rejected")}
    assert {name: row["detail"] for name, row in found.items()} == expected
    assert {row["step"] for row in found.values()} == {"blocked_images"}
    assert manifest(out)["blocklists"][0]["entries"] == {"image": 4, "sha256": 4}
    succeed(source / "00000.tar", whole, *ALL)
    hosts.write_text("key:0000000000000001\n")
    sheet = f"--output={tmp_path}/look.html"
    others = tmp_path / "others"
    others.mkdir()
    shutil.copy(source / "00000.tar", others)
    for folder in (whole, others):  # of another tool, too
        assert look([str(folder), f"{blocklist},{hosts}", sheet]) == 0
        assert (tmp_path / "look.html").read_text().count("data:image/jpeg") == 8
    assert takedown([str(whole), blocklist, "--dry_run"]) == 0
    assert {Path(fate.url).stem for fate in kept(whole)} == {*EXAM, *OTHERS}
    assert takedown([str(whole), blocklist]) == 0
    assert {Path(fate.url).stem for fate in kept(whole)} == {"camera", "moon", "coins"}
    assert look([str(whole), blocklist, sheet]) == 1
    for wrong in (source / "exam" / "broken.png", tmp_path / "nowhere", hosts):
        assert takedown([str(whole), f"--blocklist=image:{wrong}"]) == 2


def test_flags_of_another_measure_are_refused() -> None:
    for flag in ("--overlap_measure=phash", "--overlap_model=a.onnx"):
        with pytest.raises(UsageError, match="here pass nothing: copies of evaluation images are"):
            parse(["--input=a.tar", "--output=set", "--eval_images=a=b", flag])
