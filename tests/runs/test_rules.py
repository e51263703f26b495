"""Rules of a user: those of docs/rules.md through the whole command, and files that are refused."""

import json
import math
import os
import re
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignset.dataset import Dataset
from alignset.pipeline.datasets.facts import find_facts
from alignset.pipeline.deduplicate.__main__ import main as deduplicate
from alignset.pipeline.report.__main__ import main as write_report
from alignset.pipeline.report.histograms import charts_of
from alignset.pipeline.takedown.__main__ import main as take_down
from tests.support import golden as made
from tests.support.command import digests, funnel, manifest, run, succeed
from tests.support.picture_files import encoded, photograph
from tests.support.root import ROOT
from tests.support.small_embedders import saved_clip
from tests.support.small_web import SmallWeb

DIGITS, SATURATION, SIMILARITY = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "rules.md").read_text(), re.DOTALL
)
FLAGS = (
    *("--allow_private_addresses", "--min_image_side=100", "--language=", "--retries=0"),
    *("--max_unsafe_score=1", "--samples_per_shard=5"),
)


# Added to the rules of digits and of saturation: measures that have infinite values, and 66 rules.
INFINITE = """
from dataclasses import replace


def green(rows):
    return [float("inf") if "garden" in text else float("-inf") for text in rows["text"]]


def coloured(rows):
    return [float("inf") if value > 0.01 else float("-inf") for value in saturation(rows)]


def put(rule, n, of):
    names = {name: f"{name}_{n}" for name in ("name", "reason", "step")}
    measure = replace(rule.measure, of=of, **{name: f"{name}_{n}" for name in ("axis", "column")})
    globals()[f"{rule.name}_{n}"] = replace(rule, measure=measure, **names)


for n in range(66):
    put(MAX_DIGIT_SHARE, n, green)
put(MIN_SATURATION, 66, coloured)
"""


# Added to a file of one rule: the same rule, which raises on one pair.
FAILING = """
from dataclasses import replace

from alignset.rules import Limit

RULE = next(value for value in list(vars().values()) if isinstance(value, Limit))


def failing(rows):
    for text in rows.get("text", []):
        if "street" in text:
            raise ValueError("no streets")
    for pixels in rows.get("pixels", []) if "text" not in rows else []:
        if (pixels.max(axis=2) == pixels.min(axis=2)).all():
            raise ValueError("no grey ones")
    return [RULE.default] * len(next(iter(rows.values())))


for name in [name for name, value in list(vars().items()) if isinstance(value, Limit)]:
    rule = vars().pop(name)
RULE = replace(rule, measure=replace(rule.measure, of=failing))
del rule
"""


class Made:
    """Pairs of photographs, one of them grey, one with a text of digits; and files of rules."""

    def __init__(self, web: SmallWeb, folder: Path) -> None:
        self.folder, self.web = folder, web
        fates = []
        for n in range(8):
            picture = photograph(900 + n, 300, 240)
            picture = picture.convert("L").convert("RGB") if n == 3 else picture
            web.files[f"/rules/{n}"] = encoded(picture, "JPEG")
            text = "the picture 12345678901234567890" if n == 5 else f"{made.TEXTS[n]} in the sun"
            text += " and in the rain" * (n == 6)
            fates.append(made.Fate(f"{web.url}/rules/{n}", text))
        pq.write_table(made.columns(fates), folder / "pairs.parquet")
        model = saved_clip(folder / "clip")
        (folder / "digits.py").write_text(DIGITS)
        (folder / "saturation.py").write_text(SATURATION)
        (folder / "similarity.py").write_text(SIMILARITY.replace("path/to/model", str(model)))
        names = ("digits", "saturation", "similarity")
        self.rules = f"--rules={','.join(f'{folder}/{name}.py' for name in names)}"

    def run(self, output: Path, *flags: str) -> None:
        succeed(self.folder / "pairs.parquet", output, *FLAGS, self.rules, *flags)


@pytest.fixture(scope="module")
def rules(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Made:
    found = Made(web, tmp_path_factory.mktemp("rules"))
    found.run(found.folder / "set")
    return found


def rows_of(output: Path, kind: str) -> list[dict]:
    tables = [pq.read_table(path) for path in sorted(output.glob(f"{kind}/*.parquet"))]
    return [row for table in tables for row in table.to_pylist()]


def test_each_has_a_reason_a_step_and_a_column(rules: Made) -> None:
    out = rules.folder / "set"
    dropped = {row["reason"]: row for row in rows_of(out, "rejected")}
    assert dropped.keys() == {"too_many_digits", "too_grey"}
    assert dropped["too_many_digits"]["digit_share"] > 0.3
    assert dropped["too_many_digits"]["step"] == "digits"
    assert dropped["too_grey"]["mean_saturation"] < 0.05
    kept = rows_of(out, "shards")
    assert len(kept) == 6
    for row in kept:
        assert row["digit_share"] == 0
        assert row["mean_saturation"] >= 0.05
        assert -1 <= row["similarity"] <= 1
    steps = {step["step"]: step["dropped"] for step in funnel(out)["steps"]}
    assert steps["digits"] == {"too_many_digits": 1}
    assert steps["saturation"] == {"too_grey": 1}
    assert steps["similarity"] == {"dissimilar": 0}


def test_the_manifest_names_the_files_and_the_documents_the_rules(rules: Made) -> None:
    out = rules.folder / "set"
    files = {file["name"]: file for file in manifest(out)["rule_files"]}
    assert files.keys() == {"digits.py", "saturation.py", "similarity.py"}
    assert len(files["digits.py"]["sha256"]) == 64
    assert manifest(out)["rules"]["min_mean_saturation"] == 0.05
    card = (out / "README.md").read_text()
    assert "| `max_digit_share` | 0.3 | Share of digits, at most 0.3 |" in card
    columns = json.dumps(json.loads((out / "croissant.json").read_text()))
    assert "train/mean_saturation" in columns


def test_a_model_that_scores_is_such_a_rule_and_a_finished_set_needs_no_fetch(
    rules: Made, tmp_path: Path
) -> None:
    scored, model = tmp_path / "scored", f"--score_model={rules.folder / 'clip'}"
    before = {row["key"]: row["similarity"] for row in rows_of(rules.folder / "set", "shards")}
    rules.web.requests.clear()
    threshold = sorted(before.values())[2]
    flags = (*FLAGS, model, f"--min_similarity={threshold}")
    told = run(rules.folder / "set", scored, *flags)
    assert told.status == 0, told.err
    assert rules.web.requests == []
    assert re.search(r"image and text are compared by .*clip: about 1 core-second", told.err)
    after = {row["key"]: row["similarity"] for row in rows_of(scored, "shards")}
    assert after == {key: value for key, value in before.items() if value >= threshold}
    (dropped,) = {row["reason"] for row in rows_of(scored, "rejected")}
    assert dropped == "dissimilar"
    assert manifest(scored)["job"]["score_model"] == "clip"
    card = (scored / "README.md").read_text()
    assert "| `min_similarity` |" in card
    assert "--score_model=clip" in card
    assert f"--min_similarity={threshold}" in card.replace("\\\n ", "")
    for document in (card, (scored / "manifest.json").read_text()):
        assert "similarity.py" not in document
    assert str(rules.folder) not in card
    for wrong, says in (
        ((f"--score_model={tmp_path}", "--output="), "--score_model: "),
        ((model, rules.rules), "the flag 'min_similarity' is taken"),
        ((model, "--min_similarity=2"), "min_similarity must be from -1 to 1"),
        (("--min_similarity=0.2",), "pass --score_model too"),
    ):
        ended = run(rules.folder / "set", tmp_path / "wrong", *FLAGS, *wrong)
        assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
        assert says in ended.err
    # Where the model lies decides nothing: a link to it is another spelling of its path.
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "clip").symlink_to(rules.folder / "clip")
    again = (f"--score_model={tmp_path}/there/../there/clip", f"--min_similarity={threshold}")
    assert "is finished: nothing to do" in run(rules.folder / "set", scored, *FLAGS, *again).err


def test_the_best_share_of_a_dataset_is_kept(rules: Made, tmp_path: Path) -> None:
    """Over shards of two pairs, of which some are held out; the same ones from a scored set."""
    model = f"--score_model={rules.folder / 'clip'}"
    flags = (*FLAGS, model, "--holdout=0.3", "--samples_per_shard=2")
    all_of, some, source = tmp_path / "all", tmp_path / "some", rules.folder / "pairs.parquet"
    succeed(source, all_of, *flags)
    succeed(source, some, *flags, "--keep_most_similar=0.5")
    before = [*rows_of(all_of, "shards"), *rows_of(all_of, "holdout")]
    best = sorted(before, key=lambda row: -row["similarity"])[: len(before) // 2]
    after = [*rows_of(some, "shards"), *rows_of(some, "holdout")]
    assert {row["key"] for row in after} == {row["key"] for row in best}
    dropped = rows_of(some, "rejected")
    assert {(row["reason"], row["step"]) for row in dropped} == {("less_similar", "most_similar")}
    steps = {step["step"]: step["dropped"] for step in funnel(some)["steps"]}
    assert steps["most_similar"] == {"less_similar": len(before) - len(best)}
    assert manifest(some)["pairs"] == len(best)
    assert Dataset(str(some)).dropped["less_similar"] == len(before) - len(best)
    rules.web.requests.clear()
    column = (*FLAGS, "--holdout=0.3", "--columns=all,similarity")
    succeed(all_of, tmp_path / "again", *column, "--keep_most_similar=0.5")
    rows = [*rows_of(tmp_path / "again", "shards"), *rows_of(tmp_path / "again", "holdout")]
    assert {row["key"]: row["similarity"] for row in rows} == {
        row["key"]: row["similarity"] for row in best
    }
    ended = run(all_of, tmp_path / "none", *column, "--keep_most_similar=0.01")
    assert ended.status == 1
    assert f"0 of {len(before)} pairs were kept: " in ended.err.splitlines()[-1]
    assert " were dropped as less_similar" in ended.err.splitlines()[-1]
    ended = run(source, tmp_path / "none", *FLAGS, "--keep_most_similar=0.5")
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert "the pairs will have none: pass --score_model, or --columns=similarity" in ended.err
    assert rules.web.requests == []


@pytest.mark.slow  # its workers import for 12 s of CPU
def test_workers_get_the_files(rules: Made, tmp_path: Path) -> None:
    flags = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    rules.run(tmp_path / "set", *flags)
    assert digests(tmp_path / "set") == digests(rules.folder / "set")


def test_a_rule_that_fails_on_a_row_drops_that_row_alone(
    rules: Made, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The detail of another reason, which is judged first, names no rule that failed."""
    texts = [DIGITS, SATURATION, SIMILARITY.replace("path/to/model", str(rules.folder / "clip"))]
    for n, text in enumerate(texts):
        failing = FAILING.replace("street", ("street", "no such", "park")[n])
        (tmp_path / f"{n}.py").write_text(text + failing)
    flags = (*FLAGS, f"--rules={','.join(f'{tmp_path}/{n}.py' for n in range(3))}")
    succeed(rules.folder / "pairs.parquet", tmp_path / "set", *flags, "--max_words=12")
    assert caplog.text.count("the rule max_digit_share failed at 0.py, line ") == 1
    dropped = rows_of(tmp_path / "set", "rejected")
    assert Counter((row["reason"], row["detail"]) for row in dropped) == {
        ("rule_failed", "max_digit_share"): 1,
        ("rule_failed", "min_mean_saturation"): 1,
        ("rule_failed", "min_similarity"): 2,
        ("too_many_words", None): 1,  # in a street, too
    }
    assert len(dropped) + len(rows_of(tmp_path / "set", "shards")) == 8
    assert Dataset(str(tmp_path / "set")).dropped["rule_failed"] == 4  # in two steps


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_there", "bad.py cannot be imported, line 1: ModuleNotFoundError"),
        ("def (", "bad.py cannot be imported, line 1: SyntaxError"),
        ("1 / 0", "bad.py cannot be imported, line 1: ZeroDivisionError"),
        ("import sys\nsys.exit(0)", "bad.py cannot be imported, line 2: SystemExit: 0"),
        ("x = 1", "bad.py has no rule"),
        (DIGITS.replace("max_digit_share", "min_words"), "the flag 'min_words' is taken"),
        (DIGITS.replace("too_many_digits", "too_small"), "the reason 'too_small' is taken"),
        (DIGITS.replace('step="digits"', 'step="size"'), "the step 'size' is taken"),
        (DIGITS.replace('"digit_share"', '"width"'), "the column 'width' is taken"),
        (DIGITS.replace('"digit_share"', '"word_count"'), "the column 'word_count' is taken"),
        (DIGITS.replace('"digit_share"', '"blocked"'), "the column 'blocked' is taken"),
        (DIGITS.replace("max_digit_share", "runner"), "the flag 'runner' is taken"),
        (DIGITS.replace('"digits"', '"most_similar"'), "the step 'most_similar' is taken"),
        (DIGITS.replace('axis="digits"', 'axis="side"'), "the axis 'side' is taken"),
        (DIGITS.replace("Stage.TEXT", "Stage.CORPUS"), "its stage must be TEXT, PIXELS or PAIR"),
        (DIGITS.replace("default=0.3", "default=3.0"), "max_digit_share must be from 0 to 1"),
        (DIGITS.replace("default=0.3", "default='x'"), "its default must be a number"),
        (DIGITS.replace("range=(0, 1)", "range=1"), "its range must be two numbers"),
        (DIGITS.replace('keeps="<="', 'keeps="=<"'), "keeps must be one of >, >=, <, <="),
        (DIGITS.replace("of=digit_share", "of=None"), "its measure's `of` must be a function"),
        (DIGITS.replace("range(1, 20)", "range(20, 1, -1)"), "1 to 200 finite edges, ascending"),
        (DIGITS.replace("range(1, 20)", "(1, 2e999)"), "1 to 200 finite edges, ascending"),
        (DIGITS.replace("opened=1.0", "opened=2e999"), "its opened must be a number, or None"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(code: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(code)
    ended = run(tmp_path / "pairs.parquet", tmp_path / "set", f"--rules={tmp_path}/bad.py")
    assert ended.status == 2
    (line,) = ended.err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "set").exists()
    gone = run(tmp_path / "pairs.parquet", tmp_path / "set", f"--rules={tmp_path}/gone.py")
    assert "gone.py cannot be read" in gone.err
    os.mkfifo(tmp_path / "pipe.py")  # which nobody writes to
    pipe = run(tmp_path / "pairs.parquet", tmp_path / "set", f"--rules={tmp_path}/pipe.py")
    assert "pipe.py is neither a file nor a folder: pass a file of Python" in pipe.err


def test_infinite_values_and_many_rules_stop_no_command(rules: Made, tmp_path: Path) -> None:
    """Neither a run nor what changes its dataset; and each document is JSON that all can read."""
    source, out, inf = tmp_path / "pairs.parquet", tmp_path / "set", math.inf
    table = pq.read_table(rules.folder / "pairs.parquet")
    copy = {"url": [f"{rules.web.url}/rules/copy"], "caption": table["caption"].slice(2, 1)}
    rules.web.files["/rules/copy"] = rules.web.files["/rules/2"]
    table = pa.concat_tables([table.select(copy), pa.table(copy, table.select(copy).schema)])
    likely = pa.array([-1.0, -inf, -inf, -2.0, inf, math.nan, None, -3.0, -inf])
    pq.write_table(table.append_column("likely", likely), source)
    (tmp_path / "many.py").write_text(DIGITS + SATURATION + INFINITE)
    of_rules = (*FLAGS, f"--rules={tmp_path}/many.py", "--max_column=likely=5")
    of_rules += ("--min_mean_saturation=0", "--duplicates=exact")
    succeed(source, out, *of_rules)

    def check(**expected: int) -> None:
        dropped = rows_of(out, "rejected")
        assert Counter(row["reason"] for row in dropped) == Counter(expected)
        held = {row["url"]: row["likely"] for row in [*dropped, *rows_of(out, "shards")]}
        values = [held[url.decode()] for url in table["url"].to_pylist()]
        assert values == pytest.approx(likely.to_pylist(), nan_ok=True)
        for path in out.rglob("*.json"):
            json.loads(path.read_text(), parse_constant=pytest.fail)

    of_run = {"reason_0": 1, "reason_66": 1, "high_likely": 1, "too_many_digits": 1}
    check(**of_run, duplicate_image=1)
    (first,) = (row for row in rows_of(out, "rejected") if row["reason"] == "reason_0")
    assert first["also_reasons"] == ",".join(f"reason_{n}" for n in range(1, 66))
    assert (first["column_0"], first["column_65"], first["column_66"]) == (inf, inf, None)
    urls = [row["url"] for row in (rows_of(out, "shards")[0], first)]
    (tmp_path / "list.txt").write_text("".join(f"url:{url}\n" for url in urls))
    assert take_down([str(out), f"--blocklist={tmp_path}/list.txt"]) == 0
    check(**{**of_run, "reason_0": 0}, taken_down=2, duplicate_image=1)
    assert deduplicate([str(out)]) == 0
    check(**{**of_run, "reason_0": 0}, taken_down=2, duplicate_image=1)
    assert "nothing to do" in run(source, out, *of_rules).err
    assert write_report([str(out)]) == 0


def test_a_set_of_texts_has_the_column_of_a_text_rule(rules: Made, tmp_path: Path) -> None:
    flags = ("--text_only", "--language=", f"--rules={rules.folder}/digits.py")
    succeed(rules.folder / "pairs.parquet", tmp_path / "set", *flags)
    assert {row["digit_share"] for row in rows_of(tmp_path / "set", "pairs")} == {0.0}
    (dropped,) = rows_of(tmp_path / "set", "rejected")
    assert dropped["digit_share"] > 0.3
    ended = run(rules.folder / "pairs.parquet", tmp_path / "x", *flags, "--max_digits_share=0.1")
    assert ended.err.endswith("unknown flag 'max_digits_share'; did you mean --max_digit_share?\n")


def test_what_is_fetched_again_is_judged_by_them(rules: Made, tmp_path: Path) -> None:
    flags = (*FLAGS, f"--rules={rules.folder}/digits.py,{rules.folder}/saturation.py")
    source, out = rules.folder / "pairs.parquet", tmp_path / "set"
    bodies = {path: rules.web.files.pop(path) for path in ("/rules/1", "/rules/3")}  # 3 is grey
    succeed(source, out, *flags)
    rules.web.files |= bodies
    succeed(source, out, *flags, "--retry_failed=all")
    whole = {row["key"]: row for row in rows_of(rules.folder / "set", "shards")}
    for row in (kept := rows_of(out, "shards")):
        assert row["mean_saturation"] == whole[row["key"]]["mean_saturation"]
    assert len(kept) == len(whole)
    dropped = {row["reason"]: row for row in rows_of(out, "rejected")}
    assert dropped.keys() == {"too_many_digits", "too_grey"}
    assert dropped["too_grey"]["mean_saturation"] < 0.05
    assert manifest(out)["retries"][0]["kept"] == 1
    assert {chart.axis for chart in charts_of(find_facts(str(out)))} >= {"digits", "saturation"}
