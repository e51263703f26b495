"""Rules of a user: the examples of docs/rules.md in a whole run, and files that are refused."""

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
from alignset.pipeline.commands import deduplicate
from alignset.pipeline.commands import report as write_report
from alignset.pipeline.commands import rules as list_rules
from alignset.pipeline.commands import takedown as take_down
from tests.support import golden as made
from tests.support.agreement import rows
from tests.support.command import digests, funnel, manifest, run, succeed
from tests.support.picture_files import encoded, photograph
from tests.support.root import ROOT
from tests.support.small_embedders import saved_clip
from tests.support.small_web import SmallWeb

IN_LINES, DIGITS, SATURATION, SIMILARITY = re.findall(
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


ONE_LINE = "from alignset.rules import rule; rule"
# Each of its own columns is a sum of what it sees, so that a test can tell all of that.
SEEING = """
from alignset.rules import rule

rule("digit_share", lambda text: sum(map(str.isdigit, text)) / len(text), at_most=0.3)
rule(
    "of_text",
    lambda url, language, word_count, topic, digit_share: (
        int(url[-1]) + 10 * word_count + 1000 * (language == "en") + 2000 * (topic == ["b"])
        + 5000 * (digit_share > 0.3)
    ),
    at_most=9000,
)
WIDTH = rule("width_of_pixels", lambda pixels: pixels.shape[1], at_least=1)
rule(
    "of_pair",
    lambda text, pixels, topic, original_width, unsafe_score, of_text, width_of_pixels: (
        of_text + 10_000 * (original_width == pixels.shape[1] == width_of_pixels)
        + 20_000 * (topic == ["b"]) + 40_000 * (unsafe_score != unsafe_score) + len(text) / 1000
    ),
    at_least=0,
)
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


def test_each_has_a_reason_a_step_and_a_column(rules: Made) -> None:
    out = rules.folder / "set"
    dropped = {row["reason"]: row for row in rows(out, "rejected")}
    assert dropped.keys() == {"too_many_digits", "too_grey"}
    assert dropped["too_many_digits"]["digit_share"] > 0.3
    assert dropped["too_many_digits"]["step"] == "digits"
    assert dropped["too_grey"]["mean_saturation"] < 0.05
    kept = rows(out, "shards")
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
    before = {row["key"]: row["similarity"] for row in rows(rules.folder / "set", "shards")}
    rules.web.requests.clear()
    threshold = sorted(before.values())[2]
    flags = (*FLAGS, model, f"--min_similarity={threshold}")
    told = run(rules.folder / "set" / "shards", scored, *flags)
    assert told.status == 0, told.err
    assert rules.web.requests == []
    assert re.search(r"image and text are compared by .*clip: about 1 core-second", told.err)
    after = {row["key"]: row["similarity"] for row in rows(scored, "shards")}
    assert after == {key: value for key, value in before.items() if value >= threshold}
    (dropped,) = {row["reason"] for row in rows(scored, "rejected")}
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
        ended = run(rules.folder / "set" / "shards", tmp_path / "wrong", *FLAGS, *wrong)
        assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
        assert says in ended.err
    # Where the model lies decides nothing: a link to it is another spelling of its path.
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "clip").symlink_to(rules.folder / "clip")
    again = (f"--score_model={tmp_path}/there/../there/clip", f"--min_similarity={threshold}")
    assert (
        "is finished: nothing to do"
        in run(rules.folder / "set" / "shards", scored, *FLAGS, *again).err
    )


def test_the_best_share_of_a_dataset_is_kept(rules: Made, tmp_path: Path) -> None:
    """Over shards of two pairs, of which some are held out; the same ones from a scored set."""
    model = f"--score_model={rules.folder / 'clip'}"
    flags = (*FLAGS, model, "--holdout=0.3", "--samples_per_shard=2")
    all_of, some, source = tmp_path / "all", tmp_path / "some", rules.folder / "pairs.parquet"
    succeed(source, all_of, *flags)
    succeed(source, some, *flags, "--keep_most_similar=0.5")
    before = rows(all_of, "shards", "holdout")
    best = sorted(before, key=lambda row: -row["similarity"])[: len(before) // 2]
    after = rows(some, "shards", "holdout")
    assert {row["key"] for row in after} == {row["key"] for row in best}
    dropped = rows(some, "rejected")
    assert {(row["reason"], row["step"]) for row in dropped} == {("less_similar", "most_similar")}
    steps = {step["step"]: step["dropped"] for step in funnel(some)["steps"]}
    assert steps["most_similar"] == {"less_similar": len(before) - len(best)}
    assert manifest(some)["pairs"] == len(best)
    assert Dataset(str(some)).dropped["less_similar"] == len(before) - len(best)
    rules.web.requests.clear()
    column = (*FLAGS, "--holdout=0.3", "--columns=all,similarity")
    succeed(all_of, tmp_path / "again", *FLAGS, "--holdout=0.3", "--keep_most_similar=0.5")
    again = rows(tmp_path / "again", "shards", "holdout")
    assert {row["key"]: row["similarity"] for row in again} == {
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
    scoring_nothing = [flag for flag in FLAGS if "unsafe" not in flag]
    scoring_nothing += ["--holdout=0.3", "--score_only", "--unsafe_model="]
    succeed(all_of, tmp_path / "open", *scoring_nothing)
    scores = {row["key"]: row["similarity"] for row in rows(tmp_path / "open", "shards", "holdout")}
    assert scores == {row["key"]: row["similarity"] for row in before}


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
    dropped = rows(tmp_path / "set", "rejected")
    assert Counter((row["reason"], row["detail"]) for row in dropped) == {
        ("rule_failed", "max_digit_share"): 1,
        ("rule_failed", "min_mean_saturation"): 1,
        ("rule_failed", "min_similarity"): 2,
        ("too_many_words", None): 1,  # in a street, too
    }
    assert len(dropped) + len(rows(tmp_path / "set", "shards")) == 8
    assert Dataset(str(tmp_path / "set")).dropped["rule_failed"] == 4  # in two steps


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_there", "bad.py cannot be imported, line 1: ModuleNotFoundError"),
        ("def (", "bad.py cannot be imported, line 1: SyntaxError"),
        ("1 / 0", "bad.py cannot be imported, line 1: ZeroDivisionError"),
        ("import sys\nsys.exit(0)", "bad.py cannot be imported, line 2: SystemExit: 0"),
        ("x = 1", "bad.py has no rule"),
        (f"{ONE_LINE}('a', len)", "line 1: ValueError: rule('a'): pass at_least or at_most"),
        (f"{ONE_LINE}('a', lambda n=1: n, at_most=1)", "rule('a'): its function needs a parameter"),
        (f"{ONE_LINE}('a b', len, at_most=1)", "max_a b: its names must be words of letters"),
        (f"{ONE_LINE}('size', len, at_most=1)", "the step 'size' is taken"),
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


@pytest.mark.parametrize("language", ["en", "all", ""])
def test_rules_see_all_that_is_known_of_a_pair(rules: Made, tmp_path: Path, language: str) -> None:
    table = pq.read_table(rules.folder / "pairs.parquet")
    topics = pa.array([["b"] if n % 2 else None for n in range(len(table))])
    pq.write_table(table.append_column("topic", topics), tmp_path / "pairs.parquet")
    (tmp_path / "seeing.py").write_text(SEEING)
    flags = (*FLAGS, f"--rules={tmp_path}/seeing.py", f"--language={language}", "--max_words=12")
    ended = run(tmp_path / "pairs.parquet", tmp_path / "set", *flags)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert "--rules: max_of_text: rows have no 'topic', but text, url, language, wo" in ended.err
    assert ended.err.endswith("; --columns=topic carries the input's\n")
    succeed(tmp_path / "pairs.parquet", tmp_path / "set", *flags, "--columns=topic")
    kept, dropped = (rows(tmp_path / "set", folder) for folder in ("shards", "rejected"))
    assert {row["reason"] for row in dropped} >= {"high_digit_share", "too_many_words"}
    assert len(kept) >= 4
    for row in [*kept, *dropped]:
        is_english = language and row.get("language", "en") == "en" != row.get("detail")
        of_text = int(row["url"][-1]) + 10 * len(row["caption"].split()) + 1000 * bool(is_english)
        of_text += 2000 * (row["topic"] == ["b"]) + 5000 * (row["digit_share"] > 0.3)
        if row.get("reason") != "wrong_language":
            assert row["of_text"] == of_text, row
    for row in kept:
        of_pair = row["of_text"] + 50_000 + 20_000 * (row["topic"] == ["b"])
        assert row["of_pair"] == pytest.approx(of_pair + len(row["caption"]) / 1000)
        assert row["width_of_pixels"] == row["original_width"] == 300


def test_all_rules_are_listed_with_their_defaults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    in_loop = "rule(f'has_{c}', lambda text, c=c: c in text, at_least=1)"
    (tmp_path / "lines.py").write_text(f"{IN_LINES}for c in 'ab':\n    {in_loop}\n")
    assert list_rules([f"--rules={tmp_path}/lines.py"]) == 0
    lines = {
        line.split()[0]: line.split(maxsplit=2)[1:] for line in capsys.readouterr().out.splitlines()
    }
    assert lines["--max_digits=0.3"] == ["high_digits", "its digits is too high"]
    assert {"--min_has_a=1.0", "--min_has_b=1.0"} < {*lines}
    assert lines["--max_personal_data=off"][0] == "personal_data"
    assert lines["--keep_column=NAME"][0] == "other_NAME"
    names = [flag.partition("=")[0][2:] for flag in lines]
    assert names.index("min_words") < names.index("max_digits") < names.index("min_image_side")
    assert names.index("max_unsafe_score") < names.index("min_brightness")
    assert list_rules([f"--rules={tmp_path}/gone.py"]) == 2


@pytest.mark.parametrize(
    ("code", "column", "said"),
    [
        (SATURATION, "url", "rows have no 'url', but pixels; stage=Stage.PAIR has more"),
        (DIGITS, "pixels", "language, word_count; stage=Stage.PAIR has more"),
        (DIGITS, "digit_share", "rows have no 'digit_share'"),  # its own, or of a later stage
        (SATURATION + DIGITS, "mean_saturation", "rows have no 'mean_saturation', but text,"),
        (SIMILARITY, "", "--rules: min_similarity: no model at 'path/to/model' (there is no such"),
        (
            DIGITS.replace("    return", "    open('gone')\n    return"),
            "url",
            "--rules: max_digit_share: [Errno 2] No such file or directory: 'gone'",
        ),
    ],
)
def test_a_column_or_file_that_is_lacking_is_told_before_the_run(
    rules: Made, tmp_path: Path, code: str, column: str, said: str
) -> None:
    (tmp_path / "bad.py").write_text(re.sub(r'rows\["\w+"\]', f'rows["{column}"]', code))
    source = rules.folder / "pairs.parquet"
    ended = run(source, tmp_path / "set", *FLAGS, f"--rules={tmp_path}/bad.py")
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert said in ended.err
    assert not (tmp_path / "set").exists()


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
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
        dropped = rows(out, "rejected")
        assert Counter(row["reason"] for row in dropped) == Counter(expected)
        held = {row["url"]: row["likely"] for row in [*dropped, *rows(out, "shards")]}
        values = [held[url.decode()] for url in table["url"].to_pylist()]
        assert values == pytest.approx(likely.to_pylist(), nan_ok=True)
        for path in out.rglob("*.json"):
            json.loads(path.read_text(), parse_constant=pytest.fail)

    of_run = {"reason_0": 1, "reason_66": 1, "high_likely": 1, "too_many_digits": 1}
    check(**of_run, duplicate_image=1)
    (first,) = (row for row in rows(out, "rejected") if row["reason"] == "reason_0")
    assert first["also_reasons"] == ",".join(f"reason_{n}" for n in range(1, 66))
    assert (first["column_0"], first["column_65"], first["column_66"]) == (inf, inf, None)
    urls = [row["url"] for row in (rows(out, "shards")[0], first)]
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
    assert {row["digit_share"] for row in rows(tmp_path / "set", "pairs")} == {0.0}
    (dropped,) = rows(tmp_path / "set", "rejected")
    assert dropped["digit_share"] > 0.3
    ended = run(rules.folder / "pairs.parquet", tmp_path / "x", *flags, "--max_digits_share=0.1")
    assert ended.err.endswith("unknown flag 'max_digits_share'; did you mean --max_digit_share?\n")
