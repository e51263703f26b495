"""Flags, names of rules, texts on a terminal: what is refused is one line that says what to do."""

import importlib.util
import inspect
import logging
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import DirectOptions
from hypothesis import given
from hypothesis import strategies as st

from alignset.pipeline.command_line import log_plainly, print_end, print_failure
from alignset.pipeline.errors import UsageError
from alignset.pipeline.options import parse
from alignset.pipeline.other_flags import IMG2DATASET
from alignset.pipeline.rule_files import INTERNAL_ROWS, names_of_ours
from alignset.pipeline.settings import DECLARED, Settings
from alignset.pipeline.shown_texts import cells, fitted, format_code, printable, text_table
from alignset.transforms.arrivals.images import COLUMNS, OBJECTS
from alignset.transforms.corpus.judge_pairs import CorpusSets, text_rows
from alignset.transforms.pairs.measure_pairs import measure
from alignset.transforms.rules.catalogue import PRODUCT
from tests.support.command import run_args, run_process
from tests.support.made_batches import pair_batch
from tests.support.root import ROOT

GIVEN = ("--input=a.parquet", "--output=o")
WRONG = {
    # a flag of ours or of Beam's, misspelt
    "--min_word=3": "min_words",
    "--max_image_aspekt=2": "max_image_aspect",
    "--direct_num_worker=2": "direct_num_workers",
    "--no_such_thing_at_all=1": "--help",
    "--frobnicate": "--help",
    "stray.parquet": "stray.parquet",
    # no number, or not of that kind
    "--min_words=three": "min_words: must be a whole number, such as 3; got 'three'",
    "--min_words=٣": "min_words: must be a whole number, such as 3; got '٣'",
    "--max_image_aspect=inf": "max_image_aspect: must be a number, such as 0.28; got 'inf'",
    "--max_image_aspect=٣": "max_image_aspect: must be a number, such as 0.28; got '٣'",
    "--min_column=a=nan": "min_column takes NAME=NUMBER; got a=nan",
    "--text_only=maybe": "must be true or false; got 'maybe'",
    "--direct_num_workers=many": "direct_num_workers",
    "--num_workers=4": "on this machine pass --workers",
    "--recipe=laion": "recipe must be one of align, datacomp-basic, coyo, none; got 'laion'",
    # a number that nothing passes
    "--min_words=-1": "min_words must be >= 0; got -1",
    "--min_words=21": "min_words must be <= max_words",
    "--max_words=0": "max_words must be >= 1",
    "--max_images_per_text=0": "max_images_per_text must be >= 1",
    "--vocabulary_size=0": "vocabulary_size must be >= 1",
    "--min_image_side=-5": "min_image_side must be >= 0; got -5",
    "--max_image_aspect=1": "max_image_aspect must be > 1",
    "--min_evaluation_distance=3": "min_evaluation_distance must be from 0 to 2",
    "--samples_per_shard=0": "samples_per_shard must be >= 1",
    "--batch_rows=0": "batch_rows must be >= 1",
    "--connections=0": "connections must be >= 1",
    "--retries=-1": "retries must be >= 0",
    "--timeout_s=0": "timeout_s must be > 0",
    "--image_size=0": "image_size must be >= 1",
    "--encode_quality=101": "encode_quality must be 0 to 100 for jpg",
    "--vocabulary=": "--vocabulary is empty; pass a vocabulary.u64, or leave the flag out",
    # a word that is none of the words
    "--input_format=xml": "input_format must be one of auto, parquet, csv",
    "--resize_mode=squash": "resize_mode must be one of original",
    "--encode_format=gif": "encode_format must be one of jpg, png, webp",
    "--downscale_interpolation=magic": "downscale_interpolation must be one of",
    "--language=zh-cn": "language 'zh-cn' is not known: did you mean 'zh'? pass all, a list",
    "--language=EN": "did you mean 'en'?",
    "--language=de,jp,fr": "language 'jp' is not known: did you mean 'ja'?",
    "--language=pt-BR": "did you mean 'pt'?",
    "--language=ja,": "language '' is not known: pass all",
    "--language_detector=cld3": "must be vote or langdetect, or empty; got 'cld3'",
    "--language=de,ka --language_detector=langdetect": "langdetect finds no ka: leave",
    "--words_per_language=ja --language=ja": "'ja' cannot be read: No such file or directory",
    "--words_per_language=ja:9-2 --language=ja": "words_per_language has 'ja:9-2', where a code",
    "--words_per_language=jp:2-9 --language=ja": "did you mean 'ja'?",
    "--language=klingon": "the codes are af, am,",
    "--min_language_score=1.1": "min_language_score must be from 0 to 1; got 1.1",
    "--min_language_score=-0.1": "min_language_score must be from 0 to 1; got -0.1",
}


@pytest.mark.parametrize("flag", WRONG)
def test_a_wrong_flag_is_one_line_and_status_2(flag: str):
    ended = run_args(*GIVEN, *flag.replace(" --", "\n--").split("\n"))
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("beam_runner.py: ")
    assert WRONG[flag] in ended.err


NEEDLESS = {
    ("--image_size=512",): "--image_size has no effect, since --resize_mode=original keeps",
    ("--encode_quality=80",): "give --resize_mode=keep_ratio",
    ("--resize_mode=no", "--image_size=512"): "--resize_mode=no keeps each image's size",
    ("--text_only", "--connections=9"): "--connections has no effect, since --text_only",
    ("--text_only", "--min_image_side=9"): "leave --text_only out",
    ("--min_evaluation_distance=0.3",): "give --eval_images=NAME=PATH",
    ("--language=", "--min_language_score=0.6"): "it is of English by itself",
    ("--language=", "--words_per_language=ja:2-30"): "the languages of texts are not found",
    ("--language=en,de", "--min_language_score=0.6"): "leave --language and --language_detector",
    ("--language_detector=vote", "--min_language_score=0.6"): "leave --language and",
    ("--language=", "--language_detector=vote"): "--language= keeps all texts",
    ("--retries=0", "--max_retry_after_s=9"): "give --retries",
}


@pytest.mark.parametrize("flags", NEEDLESS)
def test_a_flag_without_an_effect_is_refused_with_what_it_needs(flags: tuple[str, ...]):
    ended = run_args(*GIVEN, *flags)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert NEEDLESS[flags] in ended.err


def test_recipes_and_workers() -> None:
    assert parse([*GIVEN, "--recipe=none"]).min_words == 0
    coyo = parse([*GIVEN, "--recipe=coyo", "--max_words=9"])
    assert (coyo.language, coyo.min_words, coyo.max_words, coyo.min_image_side) == ("en", 3, 9, 200)
    for workers, processes in ((0, 1), (1, 1), (3, 3)):
        beam = parse([*GIVEN, f"--workers={workers}"]).beam.view_as(DirectOptions)
        assert beam.direct_num_workers == processes
    for words, says in (
        (("--workers=2", "--direct_num_workers=3"), "pass --workers alone"),
        (("--workers=2", "--runner=FlinkRunner"), "pass --parallelism"),
        (("--recipe=none", "--score_only"), "leave --recipe out"),
    ):
        with pytest.raises(UsageError, match=says):
            parse([*GIVEN, *words])


def test_what_every_mode_needs_is_taken():
    parse([*GIVEN, "--resize_mode=no", "--encode_quality=80"])
    parse([*GIVEN, "--resize_mode=border", "--image_size=512"])
    parse([*GIVEN, "--eval_images=a=b", "--min_evaluation_distance=0.3"])
    parse([*GIVEN, "--text_only", "--min_words=1"])
    parse([*GIVEN, "--min_words=20", "--max_words=20"])
    given = parse([*GIVEN, "--direct_num_workers=2", "--retry_failed"])
    assert given.retry_failed == "true"
    assert given.beam.view_as(DirectOptions).direct_num_workers == 2
    parse([*GIVEN, "--min_language_score=0.4"])
    parse([*GIVEN, "--language=en,en", "--min_language_score=0.4"])
    for words in ("sha256=sha256", '["sha256","sha256"]'):  # as img2dataset has it
        assert parse([*GIVEN, f"--verify_hash={words}"]).verified == ("sha256", "input_sha256")


@pytest.mark.parametrize(
    ("flag", "here"),
    [
        ("--url_list=a", "--input"),
        ("--thread_count=9", "--connections"),
        ("--output_format=webdataset", "WebDataset shards"),
        ("--multipart=9", "nothing: a run is one dataset"),
    ],
)
def test_a_flag_of_a_peer_is_answered_with_ours(flag: str, here: str):
    ended = run_args(*GIVEN, flag)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert f"unknown flag {flag[2:].partition('=')[0]!r}; here pass " in ended.err
    assert here in ended.err


@pytest.mark.parametrize(
    ("flags", "without", "said"),
    [
        (
            ("--resize_mode=border", "--exact_resize"),
            ("--resize_mode=border",),
            "--exact_resize needs img2dataset: pip install 'alignset[img2dataset]'",
        ),
        (
            ("--language=de",),
            ("--language=de", "--language_detector=langdetect"),
            "--language=de needs pycld2, py3langid: pip install 'alignset[languages]'",
        ),
        (
            ("--language_detector=vote",),
            ("--language=",),
            "--language=en needs pycld2, py3langid: pip install 'alignset[languages]'",
        ),
    ],
)
def test_a_flag_that_needs_an_extra_names_it(
    flags: Sequence[str], without: Sequence[str], said: str, monkeypatch: pytest.MonkeyPatch
):
    parse([*GIVEN, *flags])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"^{re.escape(said)}"):
        parse([*GIVEN, *flags])
    parse([*GIVEN, *without])


def test_all_of_img2datasets_flags_are_known():
    from img2dataset.main import download  # here: it imports for more than a second

    theirs = set(inspect.signature(download).parameters)
    ours = {*DECLARED}
    assert theirs - ours == set(IMG2DATASET)


@pytest.mark.parametrize("missing", GIVEN)
def test_input_and_output_are_required(missing: str):
    name = missing.partition("=")[0]
    for absent in ((), (f"{name}=",)):
        ended = run_args(*(flag for flag in GIVEN if flag != missing), *absent)
        assert ended.status == 2
        assert ended.err.count("\n") == 1
        assert f"pass {name}=PATH" in ended.err


def test_help_lists_every_flag_with_its_default():
    ended = run_args("--help=all")
    assert (ended.status, ended.err) == (0, "")
    shown = re.sub(r"\s+", " ", re.sub(r"-\n\s+", "-", ended.out))  # a line may break at a hyphen
    for name, flag in DECLARED.items():
        text = shown.partition(f" --{name} ")[2].partition(" --")[0]
        assert text, f"--{name} is not shown"
        if flag.default not in ("", False):
            assert f"(default: {flag.default})" in text, name


def test_a_wrong_flag_in_a_process_of_its_own(tmp_path: Path):
    """Beam's and Python's own words at start-up do not stand around the line either."""
    pq.write_table(pa.table({"url": ["http://a/b"], "caption": ["a b c"]}), tmp_path / "a.parquet")
    ended = run_process(f"--input={tmp_path}", f"--output={tmp_path}/o", "--min_wrods=3")
    assert (ended.status, ended.out) == (2, "")
    assert ended.err == "beam_runner.py: unknown flag 'min_wrods'; did you mean --min_words?\n"
    for words, says in (
        (
            ("pairs.csv", "out"),
            "'pairs.csv' belongs to no flag: what is read and written are flags",
        ),
        (("--version",), "unknown flag 'version'; here pass --version to alignset itself"),
        (("--unwished=report",), "unknown flag 'unwished'; here pass --opt_outs"),
    ):
        with pytest.raises(UsageError, match=re.escape(says)):
            parse(words)
    assert not (tmp_path / "o").exists()


RULES = (ROOT / "docs" / "rules.md").read_text()
DIGITS, SATURATION = (part.partition("```")[0] for part in RULES.split("```python\n")[2:4])


def parsed(tmp_path: Path, code: str, *flags: str) -> Settings:
    (tmp_path / "own.py").write_text(code)
    return parse(["--input=a", "--output=b", f"--rules={tmp_path}/own.py", *flags])


def test_a_reason_of_a_column_rule_is_taken(tmp_path: Path) -> None:
    code = DIGITS.replace("too_many_digits", "low_quality")
    with pytest.raises(UsageError, match="'low_quality' belongs to --min_column=quality; choose"):
        parsed(tmp_path, code, "--min_column=quality=0.5")
    rules = parsed(tmp_path, code, "--min_column=other=0.5")
    assert {"low_quality", "low_other"} <= set(rules.catalogue.reasons)


def test_rules_on_images_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looks at images, and --text_only fetches none"):
        parsed(tmp_path, SATURATION, "--text_only")
    assert parsed(tmp_path, DIGITS, "--text_only").catalogue.custom


def test_all_that_rules_read_is_reserved() -> None:
    pairs = measure(pair_batch([("http://a.org/", "a text")]))
    no, corpus = np.zeros(1, np.bool_), CorpusSets(*[None] * 4)  # type: ignore[arg-type]
    names = {*text_rows(pairs, corpus, no, no, no), *COLUMNS, *OBJECTS}
    names |= {"shorter", "longer", "input_hash", "is_stored"}
    of_product = {measure.column for measure in PRODUCT.measures.values()}
    assert names <= INTERNAL_ROWS | of_product | names_of_ours() | {*PRODUCT.reasons}


def test_what_is_told_gives_a_terminal_no_commands(capsys):
    assert print_end("look", "no \x1b[2J set\nhere", 1) == 1
    assert capsys.readouterr().err == "look: no \\x1b[2J set\\nhere\n"


def test_log_lines_give_a_terminal_no_commands(monkeypatch, capsys):
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    log_plainly(logging.WARNING)
    for name in ("alignset", "apache_beam"):
        logging.getLogger(name).warning("leaves out %s", "a\x1b]0;x\x07\nfailed: \u202eb")
    (ours, *beams) = capsys.readouterr().err.splitlines()
    assert ours == "leaves out a\\x1b]0;x\\x07\\nfailed: \\u202eb"
    assert beams == ["leaves out a\\x1b]0;x\\x07", "failed: \\u202eb"]


@pytest.mark.parametrize(
    ("text", "told"),
    [("first\n\n the cause \n", "the cause"), ("", "OSError('')"), ("x" * 5000, "x" * 500)],
)
def test_a_failure_is_its_last_line_with_advice_behind_it(text, told, capsys):
    assert print_failure("takedown", OSError(text), "; the same command resumes") == 1
    assert capsys.readouterr().err == f"takedown: failed: {told}; the same command resumes\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red dog", "a red dog"),
        ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
        ("a\u202eb\u2066c\u200fd", "a\\u202eb\\u2066c\\u200fd"),
        ("one\ntwo\r\x85\u2028", "one\\ntwo\\r\\x85\\u2028"),
        ("\ud800", "\\ud800"),
        ("été 猫 قطة", "été 猫 قطة"),
        ("z" + "\u0301" * 50, "z" + "\u0301" * 3),
    ],
)
def test_printable(text: str, expected: str):
    assert printable(text) == expected


@given(st.text(max_size=60), st.integers(1, 40))
def test_a_cell_is_as_wide_as_it_should_be_and_gives_no_command(text: str, width: int):
    shown = fitted(text, width)
    assert cells(shown) == width
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_table_keeps_to_the_width(width: int):
    row = ("0123456789abcdef", "640x480", "host.example", "many words " * 40)
    table = text_table(("key", "size", "host", "caption"), [row, row], width).splitlines()
    assert len(table) == 3
    assert [cells(line) for line in table[1:]] == [width, width]
    assert table[1].startswith("0123456789abcdef  640x480  host.example  many words")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("a.csv", "`a.csv`"),
        ("a`b", "``a`b``"),
        ("`", "`` ` ``"),
        ("a\n# b", "`a?# b`"),
        ("<script>", "`<script>`"),
    ],
)
def test_code_within_a_line(text: str, code: str):
    assert format_code(text) == code
