"""What is compared, what is refused, and what the table says; no model is trained here."""

import argparse
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.ablate import pool as pools
from alignset.ablate.__main__ import ablate, cell_of, main, open_folder, write_results
from alignset.ablate.plan import BASELINES, read_plan
from alignset.ablate.pool import ALL, RANDOM, Flags, Pool, Variant, copy_shards
from alignset.pipeline.errors import UsageError
from alignset.train.data.images import decode_square
from alignset.train.data.samples import read_pairs
from alignset.train.evaluate.bootstrap import RESAMPLES, SEED
from tests.support.train_shards import colour_files, colour_shards, write_tar

RULE = """
from alignset.rules import Limit, Measure, Stage

MAX_DIGITS = Limit(
    name="max_digits", default=3.0, help="digits", range=(0, 99), allows="0 to 99", keeps="<=",
    words="Digits", reason="digits", step="digits", means="many digits", stage=Stage.TEXT,
    opened=99.0,
    measure=Measure(axis="digits", label="Digits", short="digits", edges=[1, 2, 3], of=lambda rows:
        [sum(c.isdigit() for c in text) for text in rows["text"]]),
)
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_shards(tmp_path_factory.mktemp("eval"), shards=1)


def plan(shards: Path, out: Path, *flags: str) -> argparse.Namespace:
    words = [f"--input={shards}", f"--output={out}", f"--eval=colours={shards}", *flags]
    return read_plan(words, "alignset ablate")


def test_each_rule_that_is_on_is_left_out_once(shards: Path, tmp_path: Path) -> None:
    rule = tmp_path / "rule.py"
    rule.write_text(RULE)
    made = plan(
        *(shards, tmp_path / "out", f"--rules={rule}", "--max_digits=2", "--min_words=0"),
        *("--min_language_score=0.7", "--duplicates=exact", "--columns=size"),
        "--min_column=clip=0.2,size=5",
    )
    by_name = {variant.name: variant for variant in made.variants}
    flags = by_name[ALL].flags
    assert flags is not None
    assert {"max_digits": 2.0, "min_words": 0, "duplicates": "exact"}.items() <= flags.items()
    expected = {  # what is as --min_words, off, is not left out
        *("language", "max_words", "max_images_per_text", "max_texts_per_image"),
        *("vocabulary_size", "min_image_side", "max_image_aspect", "max_unsafe_score"),
        *("max_digits", "duplicates", "min_column=clip", "min_column=size"),
    }
    left_out = {name.removeprefix("without-") for name in by_name if name.startswith("without-")}
    assert left_out == expected
    assert [*by_name][:3] == ["raw", "random", "all"]
    assert [*by_name][-2:] == ["datacomp-basic", "coyo"]
    for name in expected:
        variant = by_name[f"without-{name}"]
        assert variant.flags is not None
        changed = {flag for flag in variant.flags if variant.flags[flag] != flags.get(flag)}
        if name == "language":  # and with it goes what is of no use without it
            assert flags.keys() - variant.flags.keys() == {"min_language_score"}
        if name == "max_unsafe_score":
            assert (variant.max_unsafe_score, by_name[ALL].max_unsafe_score) == (1.0, 0.5)
        else:
            assert changed == {name.partition("=")[0]}
    assert by_name["without-min_column=clip"].flags["min_column"] == "size=5"  # type: ignore[index]
    # The others are always compared with all rules.
    chosen = plan(shards, tmp_path / "out", "--variants=coyo,raw").variants
    assert [variant.name for variant in chosen] == ["raw", "all", "coyo"]
    made = {of.name: of.flags for of in plan(shards, tmp_path / "out", "--recipe=coyo").variants}
    assert (made["all"]["max_words"], "without-max_words" in made) == (256, True)
    rule.write_text(RULE.replace("opened=99.0,", ""))
    with pytest.raises(UsageError, match="the rule max_digits has no `opened`"):
        plan(shards, tmp_path / "out", f"--rules={rule}")


def test_the_pool_measures_all_and_drops_nothing_but_copies(shards: Path, tmp_path: Path) -> None:
    """It has what rules of variants compare, and flags of Beam as they were written."""
    made = plan(
        *(shards, tmp_path / "out", "--eval_images=more=x", "--min_words=2", "--duplicates=near"),
        *("--min_column=clip=0.2,original_width=201", "--require_column=a", "--columns=size"),
        *("--verify_hash=sha256=sha", "--direct_num_workers", "2", "--experiments=a"),
        *("--experiments=b", "--connections=9"),
    )
    assert made.pool_flags == {
        **{"input": str(shards), "output": str(tmp_path / "out/pool"), "score_only": True},
        **{"opt_outs": "reject", "columns": "size,clip,input_original_width,a,sha"},
        **{"eval_images": f"more=x,colours={shards}", "connections": 9},
        **{"verify_hash": "sha256=sha"},  # stored files are not compared again
        "min_evaluation_distance": made.pool_flags["min_evaluation_distance"],
    }
    assert made.beam == ["--direct_num_workers", "2", "--experiments=a", "--experiments=b"]
    assert not any("verify_hash" in (variant.flags or {}) for variant in made.variants)
    without_scores = plan(shards, tmp_path / "out", "--max_unsafe_score=1")
    assert without_scores.pool_flags["unsafe_model"] == ""
    assert "columns" not in without_scores.pool_flags
    assert "without-max_unsafe_score" not in [v.name for v in without_scores.variants]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--budgets=20,10"], "--budgets: must be ascending"),
        (["--budgets=0"], "--budgets: must be ascending"),
        (["--budgets=many"], "--budgets: must be ascending"),
        (["--seeds=0"], "--seeds must be >= 1"),
        (["--jobs=-1"], "--jobs >= 0"),
        (["--recall_at=2"], "--recall_at 1, 5 or 10"),
        (["--holdout=0.1"], "--holdout is of no use here: --eval names"),
        (["--resize_mode=border"], "--resize_mode is of no use here: the trainer resizes"),
        (["--score_model=x"], "score the pairs first"),
        (["--train=--steps=4"], "--train: --steps is set by alignset ablate"),
        (["--train=--crop_px=no"], "--train: argument --crop_px"),
        (["--variants=without-min_word"], "there is no 'without-min_word'; there are all, coyo"),
        (["--min_wrods=3"], "did you mean --min_words?"),
        (["--min_words=-1"], "min_words must be"),
        (["--eval=nowhere"], "--eval=eval=nowhere: no shards at 'nowhere'"),
        (["--eval=TEXTS"], "has no image with a caption"),
        (["--eval=a/b=nowhere"], "--eval: 'a/b' must be a name"),
        (["--eval=a=x,a=y"], "--eval: 'a' must be a name"),
        (["--output=s3://bucket/x"], "s3://bucket/x is a URL"),
    ],
)
def test_wrong_flags_are_one_line(
    flags: list[str],
    said: str,
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_tar(tmp_path / "texts/0.tar", {"a.txt": b"no image"})
    flags = [flag.replace("TEXTS", str(tmp_path / "texts")) for flag in flags]
    words = [f"--input={shards}", f"--output={tmp_path / 'out'}", f"--eval={shards}", *flags]
    try:
        status = main(words, "alignset ablate")
    except SystemExit as error:
        status = int(error.code or 0)
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2
    assert said in line
    assert not (tmp_path / "out").exists()


def test_a_folder_is_of_one_ablation(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for more in ([], ["--seeds=9", "--budgets=8", "--jobs=1"]):
        open_folder(out, plan(shards, out, "--min_words=2", *more).same)
    for other, flags in (("curate", ["--min_words=3"]), ("train", ["--min_words=2", "--train=-h"])):
        same = plan(shards, out, "--min_words=2").same | {other: flags}
        with pytest.raises(UsageError, match=f"begun with another --{other}"):
            open_folder(out, same)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/photo.jpg").touch()
    with pytest.raises(UsageError, match="holds no ablation"):
        open_folder(tmp_path / "other", {})


@pytest.fixture
def pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Twelve pairs, as the run of a pool leaves them; rules keep the rows of `--rows`."""
    rows = [
        ("a cat on a mat", "1" * 16, 0.1),
        ("a cat on a mat", "1" * 16, 0.1),  # the same image and text
        ("a cat on a mat", "2" * 16, 0.2),
        ("a dog", "1" * 16, None),
        ("dogs", "3" * 16, 0.5),  # four characters
        ("a bird", "4" * 16, 0.50001),
        ("five5", "5" * 16, 0.0),
        ("x" * 1001, "6" * 16, 0.0),
        *((f"a text of number {n}", f"{n:016x}", 0.0) for n in range(90, 94)),
    ]
    files = colour_files(0, len(rows))
    keys = [name.partition(".")[0] for name in files if name.endswith(".txt")]
    files[f"{keys[3]}.png"] = b"no image"
    shard = {name: data for name, data in files.items() if ".json" not in name}
    write_tar(tmp_path / "pool/shards/00000.tar", shard)
    captions, hashes, scores = (pa.array(column) for column in zip(*rows, strict=True))
    names = ["key", "caption", "phash", "unsafe_score"]
    sidecar = pa.table([pa.array(keys), captions, hashes, scores.cast(pa.float32())], names)
    pq.write_table(sidecar, tmp_path / "pool/shards/00000.parquet")
    (tmp_path / "variants").mkdir()

    def run(flags: Flags) -> None:
        kept, folder = flags["rows"], Path(str(flags["output"]))
        (folder / "shards").mkdir(parents=True)
        (folder / "funnel.json").touch()
        if kept:  # without a shard there is no sidecar
            pq.write_table(sidecar.select(["key"]).take(kept), folder / "shards/00000.parquet")

    monkeypatch.setattr(pools, "curate", run)
    return Pool(tmp_path)


def test_inputs_that_rules_have_filtered_are_named(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("nothing is fetched here")

    monkeypatch.setattr("alignset.ablate.__main__.curate", refuse)
    for name, count in (("filtered,once", 3), ("whole", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text('{"job": {"text_only": false}}')
        dropped = f'{{"too_small": {count}, "fetch_failed": 2}}'
        (tmp_path / name / "funnel.json").write_text(f'{{"steps": [{{"dropped": {dropped}}}]}}')
    inputs = rf"{tmp_path}/filtered\,once,{tmp_path}/whole,{tmp_path}/none.parquet"
    made = plan(shards, tmp_path / "out", f"--input={inputs}")
    with pytest.raises(UsageError, match="nothing is fetched here"):
        ablate(made, "x")
    warning = capfd.readouterr().err.partition("1 of 3")[0]
    assert warning.startswith(
        f"{tmp_path}/filtered,once: its rules have dropped pairs already (too_small)"
    )
    assert warning.count("--score_only") == 1


def test_what_variants_keep_of_the_pool(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    rules: Flags = {"rows": [*range(11)][::-1]}

    def dropped(variant: Variant, seed: int = 0) -> list[int]:
        return np.flatnonzero(~pool.mask(variant, seed)).tolist()

    # Before what is as large as it.
    draws = [dropped(Variant(RANDOM, "", {"rows": [0, 4, 9]}), seed) for seed in (0, 0, 1)]
    assert [len(draw) for draw in draws] == [9, 9, 9]
    assert draws[0] == draws[1] != draws[2]
    assert dropped(Variant(ALL, "", {"rows": [0, 4, 9]})) == [1, 2, 3, 5, 6, 7, 8, 10, 11]
    assert dropped(Variant("raw")) == []
    assert dropped(Variant("none", "", {"rows": []})) == [*range(12)]
    assert dropped(Variant("scored", "", rules, 0.5)) == [5, 11]  # without a score a pair stays
    assert sorted(path.name for path in (pool.out / "variants").iterdir()) == [
        *("all.funnel.json", "all.npy", "none.funnel.json", "none.npy", "raw.npy"),
        *("scored.funnel.json", "scored.npy"),
    ]
    datacomp, coyo = (of._replace(flags={"rows": [*range(12)]}) for of in BASELINES)
    assert dropped(datacomp) == [3, 4, 6]  # 5 characters or fewer
    assert dropped(coyo) == [1, 4, 5, 7]
    later = coyo._replace(name="later", flags={"rows": [*range(1, 12)]})
    assert dropped(later) == [0, 4, 5, 7]  # then the copy is the first
    monkeypatch.setattr(pools, "curate", None)  # what was found is read again
    assert dropped(Variant("scored", "", rules, 0.5)) == [5, 11]


def test_shards_of_a_variant_have_its_pairs_alone(pool: Pool) -> None:
    """Small squares are what the trainer makes of the images."""
    source, folder = pool.out / "pool/shards", pool.out / "part"
    folder.mkdir()
    (folder / "stale.tar").touch()  # of a killed call
    whole = [*read_pairs([str(source / "00000.tar")])]
    copy_shards(source, folder, {whole[number].key for number in (1, 6, 11)})
    assert sorted(path.name for path in folder.iterdir()) == ["00000.tar"]
    assert [*read_pairs([str(folder / "00000.tar")])] == [whole[number] for number in (1, 6, 11)]
    copy_shards(source, folder, {pair.key for pair in whole}, side=24)
    found = [*read_pairs([str(folder / "00000.tar")])]
    assert [(pair.key, pair.text) for pair in found] == [(p.key, p.text) for p in whole]
    assert found[3].image == b"no image"  # the trainer counts it
    for pair, before in zip(found[:3], whole, strict=False):
        assert Image.open(io.BytesIO(pair.image)).size == (24, 24)
        assert (decode_square(pair.image, 24) == decode_square(before.image, 24)).all()


def hits(image: list[int], text: list[int], texts: list[int]) -> dict[str, object]:
    return {"image": image, "text": text, "texts": texts, "chance": 1.0}


def test_intervals_are_over_seeds_and_images() -> None:
    texts = [1, 2, 1]
    base = [hits([1, 0, 1], [1, 1, 0], texts), hits([0, 0, 1], [0, 2, 1], texts)]
    other = [hits([1, 1, 1], [1, 2, 0], texts), hits([1, 0, 1], [1, 2, 1], texts)]

    def recall(seeds: list[dict[str, object]], times: np.ndarray, of_seeds: np.ndarray) -> float:
        ways = [
            np.dot(times, seed["image"]) / times.sum()
            + np.dot(times, seed["text"]) / np.dot(times, texts)
            for seed in seeds
        ]
        return float(50 * np.dot(of_seeds, ways))

    rng = np.random.default_rng(SEED)
    times = rng.multinomial(3, [1 / 3] * 3, RESAMPLES)
    drawn = rng.multinomial(2, [1 / 2] * 2, RESAMPLES) / 2
    scores, bases = (
        np.array([recall(of, *resample) for resample in zip(times, drawn, strict=True)])
        for of in (other, base)
    )
    once = np.ones(3), np.full(2, 0.5)
    expected = [recall(other, *once), *np.percentile(scores, [2.5, 97.5])]
    expected += [recall(other, *once) - recall(base, *once)]
    expected += [*np.percentile(scores - bases, [2.5, 97.5])]
    assert [*cell_of(other, base).values()] == pytest.approx(expected)
    assert [*cell_of(base, base).values()][3:] == [0, 0, 0]


def test_the_table_and_the_plot_have_each_variant_and_budget(tmp_path: Path) -> None:
    base, better = ([hits([of] * 40, [0] * 40, [1] * 40)] for of in (0, 1))
    same, higher = cell_of(base, base), cell_of(better, base)
    rows = [
        {"variant": "all", "pairs": 1234, "same_as": "", "budgets": {8: same, 16: same}},
        {"variant": "raw", "pairs": 99, "same_as": "all", "budgets": {8: higher, 16: same}},
    ]
    settings = {"command": "x", "measure": "R@1", "seeds": 1, "chance": {"a": 2.5, "b": 1.0}}
    above = [rows[0] | {"budgets": {8: higher | {"high": 100 + 1e-12}}}]
    about = {"all": "all rules", "raw": "all < none"}
    said = write_results(tmp_path, settings | {"results": {"a": rows, "b": above}}, about)
    assert said.startswith(
        "# Which rules help\n\n## a\n\n| variant | pairs | 8 samples seen | 16 samples seen |\n"
        "| --- | ---: | --- | --- |\n| `all` | 1,234 | 0.0 | 0.0 |\n| `raw` (= `all`) | 99 | 50.0 "
        "(+50.0: +50.0 to +50.0) \\* | 0.0 (+0.0: +0.0 to +0.0) |\n\n## b\n"
    )
    assert "\n- `all`: all rules\n- `raw`: all < none\n\nR@1 in percent: the mean of both" in said
    assert "of 1 seed; chance is 2.50 (a), 1.00 (b). In brackets" in said
    assert "\n\n![R@1 on a](ablation-a.svg)\n\n## b\n" in (tmp_path / "ablation.md").read_text()
    assert "100 %" in (tmp_path / "ablation-b.svg").read_text()
    drawn = ElementTree.parse(tmp_path / "ablation-a.svg").getroot()
    dots = [node for node in drawn.iter() if node.tag.endswith("circle") and node.get("r") == "3"]
    assert len(dots) == 4
    assert len({dot.get("cx") for dot in dots}) == 2
    texts = [node.text for node in drawn.iter() if node.text and node.text.strip()]
    assert {"R@1 on a, with 95 % intervals", "raw", "all", "50 %"} <= set(texts)
    assert not re.search("nan|inf", ElementTree.tostring(drawn).decode())
