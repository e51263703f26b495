"""A dataset that grows is what a run from scratch over all its crawls makes, and asks only for
images that it does not know, as the web server counts them."""

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alignset.pipeline.errors import UsageError
from tests.runs.test_killed_changes import NEVER, TEN, UNSEEN, check_readers, moments, run_killed
from tests.support import golden
from tests.support.agreement import check_dataset, rows, stored
from tests.support.command import digests, manifest
from tests.support.crawls import (
    BASE,
    LOST,
    OF_DATASET,
    Crawls,
    check_asked,
    check_equal,
    paths_dropped,
)
from tests.support.root import ROOT
from tests.support.small_web import small_web
from tests.support.stores import Store

GROW = ("grow", "{out}", "--input={2}", "--output={new}")
ROWS = ("curate", "--input={out},{2}", "--output={new}")
ALONE = ("curate", "--input={out}", "--output={new}")
TABLES = ("curate", "--input={1},{2}", "--images_from={out}", "--output={new}")
FETCHING = BASE[:4]
OF_IMAGE = ("too_small", "too_elongated", "unsafe")
SCORES = tuple(flag for flag in BASE if "unsafe" not in flag)
RED = ("--unsafe_model={model}", "--max_unsafe_score=0.55")
RESIZED = ("--resize_mode=keep_ratio", "--image_size=80", "--encode_quality=90")
EXAM, HELD_OUT = "--eval_images=exam={at}/exam", "--holdout=0.2"
REPORT = "--opt_outs=report"
LOOSE = ("--min_image_side=80", "--max_image_aspect=5", "--min_words=2", "--max_unsafe_score=0.7")
STRICT = ("--min_image_side=105", "--max_image_aspect=2", "--max_unsafe_score=0.5")


class Case(NamedTuple):
    """What a dataset of the first month becomes.

    Attributes:
      rules: of the run from scratch, and of a dataset that grows by `curate`.
      ways: commands that make the same of dataset {out}.
      before: the rules of {out}, where they are others.
      inputs: of the run from scratch. alone: whether nothing is asked for anew.
    """

    rules: tuple[str, ...]
    ways: tuple[tuple[str, ...], ...]
    before: tuple[str, ...] = ()
    inputs: str = "--input={1},{2}"


CASES = {
    "dirty rows": Case((*BASE, HELD_OUT, EXAM, "--columns=similarity"), (GROW, ROWS, TABLES)),
    "scores, each image once": Case(
        (*SCORES, *RED, "--duplicates=exact"),
        ((*GROW, "--unsafe_model={model}"), ROWS),
    ),
    "no near-duplicates": Case((*BASE, "--duplicates=near", HELD_OUT), (GROW,)),
    "resized": Case((*BASE, *RESIZED), (GROW,)),
    "no scores": Case((*SCORES, "--unsafe_model="), (GROW,)),
    "own rules, most similar": Case(
        (
            *(*BASE, "--rules={at}/digits.py,{at}/saturation.py", "--min_mean_saturation=0.2"),
            *("--keep_most_similar=0.7", "--columns=similarity"),
        ),
        ((*GROW, "--rules={at}/digits.py,{at}/saturation.py"),),
    ),
    "languages": Case((*BASE, "--language=all", "--max_pairs_per_concept=9"), (GROW,)),
    "texts alone": Case((*BASE[5:8], "--text_only", "--language=en,de"), (GROW, ROWS)),
    "stricter": Case((*SCORES, *RED, *STRICT), (ALONE,), (*SCORES, *RED, *LOOSE), "--input={1}"),
    "looser": Case((*SCORES, *RED, *LOOSE), (ALONE,), (*SCORES, *RED, *STRICT), "--input={1}"),
    "resized now": Case((*BASE, *RESIZED), (ALONE,), BASE, "--input={1}"),
    "scored now": Case((*SCORES, *RED), (ALONE,), BASE, "--input={1}"),
    "compared now": Case((*BASE, EXAM), (ALONE,), BASE, "--input={1}"),
    "opt-outs reported now": Case((*BASE, REPORT), (ALONE,), BASE, "--input={1}"),
    "opt-outs rejected now": Case(BASE, (ALONE,), (*BASE, REPORT), "--input={1}"),
}


# What make test has, in 2 s for each run; the others are slow.
QUICK = [
    *(("dirty rows", GROW), ("stricter", ALONE), ("looser", ALONE)),
    *(("opt-outs rejected now", ALONE), ("texts alone", GROW), ("texts alone", ROWS)),
    ("scores, each image once", CASES["scores, each image once"].ways[0]),
]


@pytest.fixture(scope="module")
def crawls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawls]:
    with small_web() as web, small_web() as moody:
        made = Crawls(web, moody, tmp_path_factory.mktemp("crawls"))
        page = (ROOT / "docs" / "rules.md").read_text()
        examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
        for name, example in zip(("digits", "saturation"), examples[1:], strict=False):
            (made.at / f"{name}.py").write_text(example)
        yield made


@pytest.mark.parametrize(
    ("name", "way"),
    [
        pytest.param(name, way, marks=[] if (name, way) in QUICK else pytest.mark.slow)
        for name, case in CASES.items()
        for way in case.ways
    ],
)
def test_what_has_grown_is_as_from_scratch(
    crawls: Crawls, tmp_path: Path, name: str, way: tuple[str, ...]
) -> None:
    case, new = CASES[name], tmp_path / "new"
    out, known = crawls.make(1, "--input={1}", *(case.before or case.rules))
    month = 1 if way is ALONE else 2
    scratch, wanted = crawls.make(month, case.inputs, *case.rules)
    flags = case.rules if way[0] == "curate" else FETCHING if wanted else ()
    asked = crawls.run(month, *way, *flags, out=out, new=new)
    # Rows of `rejected/` keep the kinds of opt-outs that were reported.
    check_equal(new, scratch, shards_alone=name == "opt-outs rejected now")
    check_dataset(new)
    again = paths_dropped(out, *OF_DATASET)
    if case.before:  # what other thresholds may keep
        again |= paths_dropped(out, *OF_IMAGE) - paths_dropped(scratch, *OF_IMAGE)
        again |= paths_dropped(out, "opted_out") ^ paths_dropped(scratch, "opted_out")
    check_asked(asked, wanted, known, again)
    assert asked.keys() & again if name == "looser" else asked or month == 1 or not wanted


def test_scores_are_added_without_requests_where_the_files_serve(
    crawls: Crawls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file as it came serves any measure, a resized one only what was measured."""
    unscored = (*RESIZED, "--unsafe_model=")
    for n, (before, flags, serves) in enumerate(
        [((), (), True), (RESIZED, unscored, True), (RESIZED, RESIZED, False), (RESIZED, (), False)]
    ):
        out, _ = crawls.make(1, "--input={1}", *BASE, *before)
        words = ("curate", "--input={out}", "--output={new}", "--score_only", *FETCHING, *flags)
        capsys.readouterr()
        asked = crawls.run(1, *words, out=out, new=tmp_path / str(n))
        is_said = f"{out} keeps resized images: the originals are" in capsys.readouterr().err
        assert (not asked, not is_said) == (serves, serves), (before, flags)


@pytest.mark.slow
def test_three_months_each_grown_from_the_one_before(crawls: Crawls, tmp_path: Path) -> None:
    """With what an older dataset knows too: an image whose pair left and came back."""
    first, known = crawls.make(1, "--input={1}", *BASE)
    scratch, wanted = crawls.make(2, "--input={1},{2},{3}", *BASE)
    second, third, both = (tmp_path / name for name in ("second", "third", "both"))
    asked = known | crawls.run(2, *GROW, *FETCHING, out=first, new=second)
    month = ("--input={3}", "--output={new}", *FETCHING)
    last = crawls.run(2, "grow", "{out}", *month, out=second, new=third)
    check_equal(third, scratch)
    again = paths_dropped(first, *OF_DATASET) | paths_dropped(second, *OF_DATASET)
    left = {row["url"].partition("/i")[2] for row in rows(first, "shards")}
    left -= {row["url"].partition("/i")[2] for row in rows(second, "shards")}
    check_asked(last, wanted, asked, again | {f"/i{path}" for path in left})
    older = crawls.run(
        2, "grow", "{out}", "--images_from={first}", *month, out=second, first=first, new=both
    )
    check_equal(both, scratch)
    check_asked(older, wanted, asked, again)


@pytest.mark.slow
def test_a_window_of_months(crawls: Crawls, tmp_path: Path) -> None:
    """The first month goes, and what is known of its images serves."""
    first, known = crawls.make(1, "--input={1}", *BASE)
    second, more = crawls.make(2, "--input={1},{2}", *BASE)
    scratch, wanted = crawls.make(2, "--input={2},{3}", *BASE)
    words = ("curate", "--input={2},{3}", "--images_from={second},{first}", "--output={new}")
    asked = crawls.run(2, *words, *BASE, first=first, second=second, new=tmp_path / "new")
    check_equal(tmp_path / "new", scratch)
    again = paths_dropped(first, *OF_DATASET) | paths_dropped(second, *OF_DATASET)
    check_asked(asked, wanted, known | more, again)


def test_a_retry_asks_for_what_failed_alone(crawls: Crawls, tmp_path: Path) -> None:
    out, _ = crawls.make(2, "--input={1},{2}", *BASE)
    scratch, _ = crawls.make(3, "--input={1},{2}", *BASE)
    retry = ("grow", "{out}", "--output={new}", "--retry_failed=http_404", *FETCHING)
    asked = crawls.run(3, *retry, out=out, new=tmp_path / "new")
    check_equal(tmp_path / "new", scratch)
    assert asked.keys() - paths_dropped(out, *OF_DATASET) == {f"/i/{n}" for n in LOST}


def test_what_was_taken_down_stays_away(
    crawls: Crawls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is never asked for, and a dataset with a list grows with this list alone."""
    taken = tmp_path / "taken"
    shutil.copytree(crawls.make(1, "--input={1}", *BASE)[0], taken)
    listed = [f"url:{crawls.web.url}/i/{n}" for n in (20, 24)]
    (tmp_path / "list.txt").write_text(
        "\n".join([*listed, "text:zyxwvut", f"text:{golden.TEXTS[4]}"])
    )
    given = f"--blocklist=list.txt={tmp_path}/list.txt"
    for forget in ((), ("--forget_blocked",)):
        out, new = (tmp_path / f"{name}{len(forget)}" for name in ("out", "new"))
        shutil.copytree(taken, out)
        crawls.run(2, "takedown", "{out}", given, *forget, out=out)
        scratch, wanted = crawls.make(2, "--input={1},{2}", *BASE, given)
        crawls.run(2, *GROW, *FETCHING, status=2, out=out, new=new)
        assert "list.txt" in capsys.readouterr().err
        asked = crawls.run(2, *GROW, *FETCHING, given, out=out, new=new)
        if not forget:  # else what is forgotten counts nowhere
            check_equal(new, scratch, shards_alone=True)
            assert not +(asked - wanted)
        assert not asked.keys() & {"/i/20", "/i/24"}
        stem = f"{crawls.web.url}/i/2"
        assert not {f"{stem}0", f"{stem}4"} & {*stored(new).values()}
        # Its tables give all pairs again; the list is not needed.
        crawls.run(2, *TABLES, *BASE, out=out, new=(of_tables := tmp_path / f"tables{len(forget)}"))
        keys = {f"{key:016x}" for key in np.fromfile(out / "taken_down.u64", "<u8")}
        assert len(keys) > 2
        assert not keys & stored(of_tables).keys()


def test_a_takedown_while_a_run_is_stopped_is_told(
    crawls: Crawls, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    """Between its stages: its texts are judged, with the pair."""
    out, new = tmp_path / "out", tmp_path / "new"
    shutil.copytree(crawls.make(1, "--input={1}", *BASE)[0], out)
    with monkeypatch.context() as patched:
        patched.setattr("alignset.pipeline.run.Run._images_curated", stop)
        crawls.run(2, *TABLES, *BASE, status=2, out=out, new=new)
    (tmp_path / "list.txt").write_text(f"url:{crawls.web.url}/i/20")
    crawls.run(2, "takedown", "{out}", f"--blocklist={tmp_path}/list.txt", out=out)
    capsys.readouterr()
    crawls.run(2, *TABLES, *BASE, status=2, out=out, new=new)
    assert "pairs were taken down from a dataset of --images_from" in capsys.readouterr().err
    crawls.run(2, *TABLES, *BASE, out=out, new=tmp_path / "other")
    assert f"{crawls.web.url}/i/20" not in stored(tmp_path / "other").values()


def stop(*_: object) -> None:
    raise UsageError("stopped")


def test_a_damaged_tar_is_as_good_as_not_there(crawls: Crawls, tmp_path: Path) -> None:
    out, new = tmp_path / "out", tmp_path / "new"
    shutil.copytree(crawls.make(1, "--input={1}", *BASE)[0], out)
    tar = min(out.glob("shards/*.tar"))
    body = bytearray(tar.read_bytes())
    body[700] ^= 1
    tar.write_bytes(body)
    scratch, _ = crawls.make(2, "--input={1},{2}", *BASE)
    crawls.run(2, *GROW, *FETCHING, out=out, new=new)
    check_equal(new, scratch)


def test_what_joined_and_left_is_told(
    crawls: Crawls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the last line, two files of keys, and the manifest."""
    out, new = crawls.make(1, "--input={1}", *BASE)[0], tmp_path / "new"
    asked = crawls.run(2, *GROW, *FETCHING, out=out, new=new)
    said = capsys.readouterr()
    before, after = (np.array([int(key, 16) for key in stored(of)], "<u8") for of in (out, new))
    joined, left = (np.fromfile(new / f"changes/{name}.u64", "<u8") for name in ("joined", "left"))
    assert joined.tolist() == np.setdiff1d(after, before).tolist()
    assert left.tolist() == np.setdiff1d(before, after).tolist()
    assert min(len(joined), len(left)) > 0
    grown = manifest(new)["grown"]
    assert (grown["joined"], sum(grown["left"].values())) == (len(joined), len(left))
    # The file of an image that has moved is asked for in a request of its own.
    came = [row for row in rows(new, "images") if row["bytes"] is not None]
    assert 0 < grown["fetched"] <= len(asked.keys() - {"/i/16"})
    assert grown["fetched"] + grown["known"] >= len(came)
    line = next(line for line in (said.out + said.err).splitlines() if "pairs joined" in line)
    assert f"{len(joined)} pairs joined, {len(left)} left (" in line
    assert f"{grown['fetched']} images fetched, {grown['known']} known" in line
    crawls.run(2, *GROW, "--min_words=2", status=2, out=out, new=tmp_path / "other")
    assert "alignset curate --input=" in capsys.readouterr().err


PATHS, PAGES = (
    [f"/i/{n}" for n in (0, 1, 4, 5, 8, 9, 10, 12, 13, 14)],
    (None, "https://p.example/1"),
)
ROW = st.tuples(
    st.sampled_from(PATHS), st.sampled_from((*golden.TEXTS[:4], None)), st.sampled_from(PAGES)
)
RULES = st.tuples(
    st.sampled_from(((), ("--duplicates=exact",), (HELD_OUT, "--duplicates=near"), (EXAM,))),
    st.sampled_from(((), ("--max_images_per_text=2",), ("--max_texts_per_image=1",))),
    st.sampled_from(("--vocabulary_size=40", "--vocabulary_size=99")),
    st.sampled_from((GROW, ROWS, TABLES)),
)


def check_random(
    crawls: Crawls, at: Path, first: list[tuple], second: list[tuple], chosen: tuple
) -> None:
    """Fails where a small dataset grows to other bytes than from scratch."""
    *rules, vocabulary, way = chosen
    flags = (*BASE[:5], "--samples_per_shard=5", "--max_unsafe_score=1", vocabulary)
    flags += tuple(flag for group in rules for flag in group)
    shutil.rmtree(at, ignore_errors=True)
    at.mkdir()
    # Some pairs are always good: a dataset of none ends otherwise.
    always = [
        [(f"/i/{n}", golden.TEXTS[n], None) for n in part] for part in (range(16, 24), (20, 36))
    ]
    for name, listed in zip("12", (always[0] + first, always[1] + second), strict=True):
        urls = [crawls.web.url + path for path, *_ in listed]
        table = {"url": urls, "caption": [text for _, text, _ in listed]}
        pages = pa.array([page for *_, page in listed], pa.string())
        pq.write_table(pa.table(table | {"page_url": pages}), at / f"{name}.parquet")
    words = [w.replace("{1}", f"{at}/1.parquet").replace("{2}", f"{at}/2.parquet") for w in way]
    known = crawls.run(
        1, "curate", f"--input={at}/1.parquet", "--output={new}", *flags, new=at / "out"
    )
    both = f"--input={at}/1.parquet,{at}/2.parquet"
    wanted = crawls.run(1, "curate", both, "--output={new}", *flags, new=at / "scratch")
    given = FETCHING if way is GROW else flags
    asked = crawls.run(1, *words, *given, out=at / "out", new=at / "new")
    check_equal(at / "new", at / "scratch")
    check_asked(asked, wanted, known, paths_dropped(at / "out", *OF_DATASET))


QUICK = {"max_examples": 2, "phases": (Phase.generate,), "derandomize": True}
MANY = pytest.param(
    {"max_examples": 12}, marks=(pytest.mark.slow, pytest.mark.timeout(3600)), id="many"
)


@pytest.mark.parametrize("how", [pytest.param(QUICK, id="quick"), MANY])
def test_random_webs(crawls: Crawls, tmp_path: Path, how: dict[str, Any]) -> None:
    shown = [HealthCheck.too_slow, HealthCheck.large_base_example]

    @settings(suppress_health_check=shown, **how)
    @given(st.lists(ROW, max_size=20), st.lists(ROW, max_size=20), RULES)
    def check(first: list[tuple], second: list[tuple], chosen: tuple) -> None:
        check_random(crawls, tmp_path / "random", first, second, chosen)

    check()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_anywhere_the_same_command_ends_it(crawls: Crawls, tmp_path: Path) -> None:
    rules = (*BASE, HELD_OUT, "--duplicates=exact")
    out, _ = crawls.make(1, "--input={1}", *rules)
    scratch, _ = crawls.make(2, "--input={1},{2}", *rules)
    crawls.set_month(2)

    def run(new: Path, when: int) -> tuple[int, str, list[str]]:
        return run_killed(new, when, *crawls.words((*GROW, *FETCHING), out=out, new=new))

    status, said, changes = run(tmp_path / "whole", NEVER)
    assert status == 0, said
    check_equal(tmp_path / "whole", scratch)

    def kill(when: int) -> None:
        new = tmp_path / f"{when}"
        status, said, _ = run(new, when)
        assert status < 0, said
        check_readers(new)
        status, said, _ = run(new, UNSEEN)
        assert status == 0, said
        check_equal(new, scratch)
        assert digests(new, ("manifest.json",)) == digests(tmp_path / "whole", ("manifest.json",))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(kill, moments(changes, TEN)))


@pytest.mark.slow
def test_worker_processes(crawls: Crawls, tmp_path: Path) -> None:
    out, known = crawls.make(1, "--input={1}", *BASE)
    scratch, wanted = crawls.make(2, "--input={1},{2}", *BASE)
    workers = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    asked = crawls.run(2, *GROW, *FETCHING, *workers, out=out, new=tmp_path / "new")
    check_equal(tmp_path / "new", scratch)
    check_asked(asked, wanted, known, paths_dropped(out, *OF_DATASET))


@pytest.mark.slow
def test_in_a_store(crawls: Crawls, tmp_path: Path, s3: Store) -> None:
    out, known = crawls.make(1, "--input={1}", *BASE)
    scratch, wanted = crawls.make(2, "--input={1},{2}", *BASE)
    for path in filter(Path.is_file, out.rglob("*")):
        s3.upload(path, f"{s3.root}/out/{path.relative_to(out)}")
    words = (word.replace("{new}", f"{s3.root}/new") for word in GROW)
    words = (word.replace("{out}", f"{s3.root}/out") for word in words)
    asked = crawls.run(2, *words, *FETCHING, *s3.flags)
    check_equal(s3.download(f"{s3.root}/new", tmp_path / "new"), scratch)
    check_asked(asked, wanted, known, paths_dropped(out, *OF_DATASET))
