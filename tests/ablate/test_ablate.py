"""What is compared, what is refused, and what the table says; no model is trained here."""

import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from alignset.ablate.__main__ import main
from alignset.ablate.plan import Plan, filtered_inputs, open_folder, read_plan
from alignset.ablate.results import Row, cell_of, plot, table
from alignset.ablate.variants import ALL, BASELINES, RANDOM, Flags, Pool, Variant
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


def plan(shards: Path, out: Path, *flags: str) -> Plan:
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
    assert [v.name for v in made.variants][:3] == ["raw", "random", "all"]
    assert [v.name for v in made.variants if v in BASELINES] == ["datacomp-basic", "coyo"]
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


def test_the_pool_measures_all_and_drops_nothing_but_copies(shards: Path, tmp_path: Path) -> None:
    made = plan(
        *(shards, tmp_path / "out", "--eval_images=more=x", "--min_words=2", "--duplicates=near"),
        *("--min_column=clip=0.2", "--columns=size", "--direct_num_workers=2", "--connections=9"),
    )
    assert made.pool_flags == {
        **{"input": str(shards), "output": str(tmp_path / "out/pool"), "score_only": True},
        **{"opt_outs": "reject", "columns": "size,clip", "min_evaluation_distance": -1.0},
        **{"eval_images": f"more=x,colours={shards}", "connections": 9},
    } | {"min_evaluation_distance": made.pool_flags["min_evaluation_distance"]}
    assert made.beam == ("--direct_num_workers=2",)
    without_scores = plan(shards, tmp_path / "out", "--max_unsafe_score=1")
    assert without_scores.pool_flags["unsafe_model"] == ""
    assert "without-max_unsafe_score" not in [v.name for v in without_scores.variants]


def test_the_pool_has_what_rules_of_variants_compare(shards: Path, tmp_path: Path) -> None:
    """By the names under which columns are carried; flags of Beam as they were written."""
    made = plan(
        *(shards, tmp_path / "out", "--min_column=original_width=201", "--require_column=a"),
        *("--verify_hash=sha256=sha", "--direct_num_workers", "2", "--experiments=a"),
        "--experiments=b",
    )
    assert made.pool_flags["columns"] == "input_original_width,a,sha"
    assert made.beam == ("--direct_num_workers", "2", "--experiments=a", "--experiments=b")
    left_out = {variant.name.removeprefix("without-") for variant in made.variants}
    assert {"min_column=original_width", "require_column=a"} <= left_out
    assert made.pool_flags["verify_hash"] == "sha256=sha", "stored files are not compared again"
    assert not any("verify_hash" in (variant.flags or {}) for variant in made.variants)


def test_inputs_that_rules_have_filtered_are_told(tmp_path: Path) -> None:
    for name, count in (("filtered,once", 3), ("whole", 0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text('{"job": {"text_only": false}}')
        dropped = f'{{"too_small": {count}, "fetch_failed": 2}}'
        (tmp_path / name / "funnel.json").write_text(f'{{"steps": [{{"dropped": {dropped}}}]}}')
    patterns = rf"{tmp_path}/filtered\,once,{tmp_path}/whole,{tmp_path}/none.parquet"
    assert filtered_inputs(patterns) == {f"{tmp_path}/filtered,once": ["too_small"]}


def test_a_rule_without_a_threshold_that_drops_nothing(shards: Path, tmp_path: Path) -> None:
    rule = tmp_path / "rule.py"
    rule.write_text(RULE.replace("opened=99.0,", ""))
    with pytest.raises(UsageError, match="the rule max_digits has no `opened`"):
        plan(shards, tmp_path / "out", f"--rules={rule}")


def test_chosen_variants_always_have_all_rules(shards: Path, tmp_path: Path) -> None:
    made = plan(shards, tmp_path / "out", "--variants=coyo,raw")
    assert [variant.name for variant in made.variants] == ["raw", "all", "coyo"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--budgets=20,10"], "--budgets must be ascending numbers"),
        (["--budgets=0"], "--budgets must be"),
        (["--budgets=many"], "--budgets must be"),
        (["--seeds=0"], "--seeds must be >= 1; got 0"),
        (["--jobs=-1"], "--jobs must be >= 0; got -1"),
        (["--holdout=0.1"], "--holdout is of no use here: --eval names"),
        (["--resize_mode=border"], "--resize_mode is of no use here: the trainer resizes"),
        (["--score_model=x"], "score the pairs first"),
        (["--train=--steps=4"], "--train: --steps is set by alignset ablate"),
        (["--train=--crop_px=no"], "--train: argument --crop_px"),
        (["--variants=without-min_word"], "there is no 'without-min_word'; there are all, coyo"),
        (["--min_wrods=3"], "did you mean --min_words?"),
        (["--min_words=-1"], "min_words must be"),
        (["--eval=nowhere"], "--eval=eval=nowhere: no shards at 'nowhere'"),
        (["--eval=a/b=nowhere"], "--eval: 'a/b' must be a name"),
        (["--eval=a=x,a=y"], "--eval: 'a' must be a name"),
        (["--output=s3://bucket/x"], "name a folder of this machine"),
    ],
)
def test_wrong_flags_are_one_line(
    flags: list[str],
    said: str,
    shards: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [f"--input={shards}", f"--output={tmp_path / 'out'}", f"--eval={shards}", *flags]
    try:
        status = main(words, "alignset ablate")
    except SystemExit as error:
        status = int(error.code or 0)
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2
    assert said in line
    assert not (tmp_path / "out").exists()


def test_what_is_evaluated_on_is_read_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tar(tmp_path / "eval/0.tar", {"a.txt": b"no image"})
    flags = [f"--input={tmp_path}", f"--output={tmp_path / 'out'}", f"--eval={tmp_path / 'eval'}"]
    assert main(flags) == 2
    assert "--eval=eval=" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_is_of_one_ablation(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    open_folder(plan(shards, out, "--min_words=2"))
    open_folder(plan(shards, out, "--min_words=2", "--seeds=9", "--budgets=8", "--jobs=1"))
    with pytest.raises(UsageError, match="begun with another --curate"):
        open_folder(plan(shards, out, "--min_words=3"))
    with pytest.raises(UsageError, match="begun with another --train"):
        open_folder(plan(shards, out, "--min_words=2", "--train=--crop_px=32"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/photo.jpg").touch()
    with pytest.raises(UsageError, match="holds no ablation"):
        open_folder(plan(shards, tmp_path / "other"))


@pytest.fixture
def pool(tmp_path: Path) -> Pool:
    """Twelve pairs, as the run of a pool leaves them."""
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
    write_tar(
        tmp_path / "pool/shards/00000.tar", {k: v for k, v in files.items() if ".json" not in k}
    )
    columns = zip(*rows, strict=True)
    captions, hashes, scores = (pa.array(column) for column in columns)
    names = ["key", "caption", "phash", "unsafe_score"]
    sidecar = pa.table([pa.array(keys), captions, hashes, scores.cast(pa.float32())], names)
    pq.write_table(sidecar, tmp_path / "pool/shards/00000.parquet")
    return Pool(tmp_path)


def test_baselines_choose_by_characters_and_copies(pool: Pool) -> None:
    every = np.ones(12, np.bool_)
    datacomp, coyo = (baseline.choose(pool.pairs, every) for baseline in BASELINES)
    assert np.flatnonzero(~datacomp).tolist() == [3, 4, 6]  # 5 characters or fewer
    assert np.flatnonzero(~coyo).tolist() == [1, 4, 7]
    without_first = every.copy()
    without_first[0] = False  # then the copy is the first
    assert BASELINES[1].choose(pool.pairs, without_first)[1]


def test_scores_of_the_pool_decide(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "kept_by_rules", lambda variant: np.arange(12) != 11)
    kept = pool.mask(Variant("a", "", {}, max_unsafe_score=0.5))
    assert np.flatnonzero(~kept).tolist() == [5, 11]  # without a score a pair stays
    monkeypatch.setattr(pool, "kept_by_rules", None)  # what was found is read again
    assert (pool.mask(Variant("a", "", {}, max_unsafe_score=0.5)) == kept).all()


@pytest.mark.parametrize("kept", [[], [1, 4]])
def test_keys_of_a_run_are_found_in_the_pool(
    pool: Pool, kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(flags: Flags, log: Path, done_file: Path) -> None:
        shards = done_file.parent / "shards"
        shards.mkdir(parents=True)
        (done_file.parent / "funnel.json").touch()
        if kept:  # without a shard there is no sidecar
            keys = pool.pairs.select(["key"]).take(kept[::-1])
            pq.write_table(keys, shards / "00000.parquet")

    monkeypatch.setattr("alignset.ablate.variants.curate", run)
    found = pool.kept_by_rules(Variant("a", "", {}))
    assert np.flatnonzero(found).tolist() == kept
    assert not (pool.out / "variants/a").exists()


def test_a_random_part_is_as_large_as_all_rules(pool: Pool) -> None:
    np.save(pool.out / "variants/all.npy", np.arange(12) % 3 == 0)
    draws = [pool.mask(Variant(RANDOM, ""), seed) for seed in (0, 0, 1)]
    assert [int(draw.sum()) for draw in draws] == [4, 4, 4]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


def test_shards_of_a_variant_have_its_pairs_alone(pool: Pool) -> None:
    folder = pool.out / "part"
    folder.mkdir()
    (folder / "stale.tar").touch()  # of a killed call
    pool.write_shards(np.arange(12) % 5 == 1, folder, side=256)
    assert sorted(path.name for path in folder.iterdir()) == ["00000.tar"]
    pairs = [*read_pairs([str(folder / "00000.tar")])]
    whole = [*read_pairs([str(pool.out / "pool/shards/00000.tar")])]
    assert [pair[1:] for pair in pairs] == [whole[number][1:] for number in (1, 6, 11)]


def test_small_squares_are_what_the_trainer_makes_of_the_images(pool: Pool) -> None:
    shard, folder = pool.out / "pool/shards/00000.tar", pool.out / "part"
    whole = [*read_pairs([str(shard)])]
    broken = whole[3].key
    files = {}
    for pair in whole:
        files[f"{pair.key}.jpg"] = b"no image" if pair.key == broken else pair.image
        files[f"{pair.key}.txt"] = pair.text.encode()
    write_tar(shard, files)
    for _ in range(2):  # written, and read again
        pool.write_shards(np.ones(12, np.bool_), folder, side=24)
        found = [*read_pairs([str(folder / "00000.tar")])]
        assert [(pair.key, pair.text) for pair in found] == [(p.key, p.text) for p in whole]
        for pair, before in zip(found, whole, strict=True):
            if pair.key == broken:  # the trainer counts it
                assert pair.image == b"no image"
                continue
            assert Image.open(io.BytesIO(pair.image)).size == (24, 24)
            pixels = decode_square(pair.image, 24)
            assert (pixels == decode_square(before.image, 24)).all()
        shard.unlink(missing_ok=True)


def hits(image: list[int], text: list[int], texts: list[int]) -> dict[str, object]:
    return {"image": image, "text": text, "texts": texts, "chance": 1.0}


def test_intervals_are_over_seeds_and_images() -> None:
    texts = [1, 2, 1]
    base = [hits([1, 0, 1], [1, 1, 0], texts), hits([0, 0, 1], [0, 2, 1], texts)]
    other = [hits([1, 1, 1], [1, 2, 0], texts), hits([1, 0, 1], [1, 2, 1], texts)]

    def recall(seeds: list[dict[str, object]], times: list[int], of_seeds: list[float]) -> float:
        total = 0.0
        for seed, weight in zip(seeds, of_seeds, strict=True):
            of_image = sum(t * h for t, h in zip(times, seed["image"], strict=True)) / sum(times)
            found = sum(t * h for t, h in zip(times, seed["text"], strict=True))
            total += (
                weight
                * (of_image + found / sum(t * n for t, n in zip(times, texts, strict=True)))
                / 2
            )
        return 100 * total

    rng = np.random.default_rng(SEED)
    times = rng.multinomial(3, [1 / 3] * 3, RESAMPLES).tolist()
    drawn = (rng.multinomial(2, [1 / 2] * 2, RESAMPLES) / 2).tolist()
    scores, differences = [], []
    for images, seeds in zip(times, drawn, strict=True):
        scores.append(recall(other, images, seeds))
        differences.append(scores[-1] - recall(base, images, seeds))
    cell = cell_of(other, base)
    half = [0.5, 0.5]
    assert cell.score == pytest.approx(recall(other, [1, 1, 1], half))
    assert cell.difference == pytest.approx(cell.score - recall(base, [1, 1, 1], half))
    assert (cell.low, cell.high) == pytest.approx(np.percentile(scores, [2.5, 97.5]))
    assert (cell.least, cell.most) == pytest.approx(np.percentile(differences, [2.5, 97.5]))
    worse = cell_of([hits([0] * 3, [0] * 3, texts)] * 2, [hits([1] * 3, texts, texts)] * 2)
    assert (worse.difference, worse.differs) == (-100, True)
    same = cell_of(base, base)
    assert (same.difference, same.least, same.most, same.differs) == (0, 0, 0, False)


def test_the_table_and_the_plot_have_each_variant_and_budget() -> None:
    base = [hits([0] * 40, [0] * 40, [1] * 40)]
    better = [hits([1] * 40, [0] * 40, [1] * 40)]
    rows = [
        Row(Variant("all", ""), 1234, {8: cell_of(base, base), 16: cell_of(base, base)}),
        Row(Variant("raw", ""), 99, {8: cell_of(better, base), 16: cell_of(base, base)}, "all"),
    ]
    lines = table(rows, [8, 16]).splitlines()
    assert lines[0] == "| variant | pairs | 8 samples seen | 16 samples seen |"
    assert lines[2] == "| `all` | 1,234 | 0.0 | 0.0 |"
    assert lines[3] == (
        "| `raw` (= `all`) | 99 | 50.0 (+50.0: +50.0 to +50.0) \\* | 0.0 (+0.0: +0.0 to +0.0) |"
    )
    perfect = Row(Variant("all", ""), 9, {8: cell_of(better, base)._replace(high=100 + 1e-12)})
    assert "100 %" in plot([perfect], [8], "")
    drawn = ElementTree.fromstring(plot(rows, [8, 16], "R@1 < chance & more"))
    dots = [node for node in drawn.iter() if node.tag.endswith("circle") and node.get("r") == "3"]
    assert len(dots) == 4
    assert len({dot.get("cx") for dot in dots}) == 2
    texts = [node.text for node in drawn.iter() if node.text and node.text.strip()]
    assert {"R@1 < chance & more", "raw", "all", "50 %"} <= set(texts)
    assert not re.search("nan|inf", ElementTree.tostring(drawn).decode())
