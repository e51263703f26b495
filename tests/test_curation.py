"""`alignset.curate`: what arguments stand for, what is raised, and that it leaves the process as it
was, in any thread and as often as it is called."""

import asyncio
import importlib
import inspect
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import alignset
from alignset.curation import command_words
from alignset.pipeline.options import read_flags
from alignset.pipeline.settings import DECLARED
from alignset.transforms.rules.rule import Rows
from tests.support.command import digests
from tests.support.golden_run import Golden
from tests.support.root import ROOT

OWN_RULES = """
from alignset.rules import Limit, Measure, Stage

class Reversed(Limit):
    def dropped(self, rows, numbers):
        return ~super().dropped(rows, numbers)

def of(rows):
    return [len(text) for text in rows["text"]]

CHARACTERS = Measure(axis="characters", label="", short="", of=of, edges=range(1, 90), whole=True)
LONG = Reversed(
    name="max_characters", default=9, help="", words="", keeps="<=", measure=CHARACTERS,
    reason="too_long", step="characters", stage=Stage.TEXT, means="",
)
SHORT = Limit(
    name="min_characters", default=1, help="", words="", keeps=">=", measure=CHARACTERS,
    reason="too_short", step="characters", stage=Stage.TEXT, means="",
)
"""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"min_image_side": 300}, ["--min_image_side=300"]),
        ({"min_image_side": np.int64(300)}, ["--min_image_side=300"]),
        ({"holdout": 1e-5}, ["--holdout=1e-05"]),
        ({"input": ["a", Path("b") / "c"]}, ["--input=a,b/c"]),
        ({"input": (path for path in ("a", "b"))}, ["--input=a,b"]),
        ({"input": Path("a,b")}, [r"--input=a\,b"]),
        ({"input": ["a,b", "c"]}, [r"--input=a\,b,c"]),
        ({"input": "a,b"}, ["--input=a,b"]),
        ({"rules": ["a.py", Path("b.py")]}, ["--rules=a.py,b.py"]),
        ({"output": Path("b")}, ["--output=b"]),
        ({"eval_images": {"a": "x/", "b": Path("y")}}, ["--eval_images=a=x/,b=y"]),
        ({"text_only": True}, ["--text_only=true"]),
        ({"text_only": False}, ["--text_only=false"]),
        ({"retry_failed": True}, ["--retry_failed"]),
        ({"retry_failed": False}, []),
        ({"retry_failed": ["dns", "timeout"]}, ["--retry_failed=dns,timeout"]),
        ({"blocklist": None}, []),
        ({"language": ""}, ["--language="]),
        ({"direct_num_workers": 2}, ["--direct_num_workers=2"]),
        ({"experiments": ["a", "b,c"]}, ["--experiments=a", "--experiments=b,c"]),
        ({"no_save": True, "save": False}, ["--no_save"]),
    ],
)
def test_arguments_stand_for_flags(flags: dict[str, Any], words: list[str]) -> None:
    assert command_words(flags) == words


def test_a_rule_stands_for_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where others have imported it; a subclass of one's own keeps what it overrides."""
    (tmp_path / "own_rules.py").write_text(OWN_RULES)
    (tmp_path / "other.py").write_text("from own_rules import LONG, SHORT")
    monkeypatch.syspath_prepend(str(tmp_path))
    rules = importlib.import_module("other")
    words = command_words({"rules": [rules.LONG, "b.py"], "max_characters": 3})
    assert words == [f"--rules={tmp_path}/own_rules.py:max_characters,b.py", "--max_characters=3"]
    (own,) = read_flags([words[0].partition(",")[0]]).of_users.limits
    assert own.name == "max_characters"
    assert own.dropped(Rows(characters=np.array([3.0, 5.0])), {own.name: 3}).tolist() == [
        *(True, False)  # as `Reversed` has it
    ]
    both = command_words({"rules": [rules.LONG, rules.SHORT]})
    assert {rule.name for rule in read_flags(both).of_users.limits} == {
        *("max_characters", "min_characters")
    }
    unknown = f"--rules={tmp_path}/own_rules.py:max_words"
    with pytest.raises(alignset.UsageError, match="has no rule 'max_words'"):
        read_flags([unknown])


def test_a_rule_of_no_file_is_refused(tmp_path: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(OWN_RULES, names)  # as the cells of a notebook
    with pytest.raises(alignset.UsageError, match="max_characters stands in no file: write it to"):
        alignset.curate(input="a.parquet", output=tmp_path / "set", rules=[names["LONG"]])


def test_a_file_of_rules_that_calls_curate_is_refused(tmp_path: Path) -> None:
    """It would wait for itself."""
    (tmp_path / "script.py").write_text(f"{OWN_RULES}\nimport alignset\nalignset.curate(input='a')")
    with pytest.raises(alignset.UsageError, match=r"line \d+: .* put that below if __name__"):
        alignset.curate(input="a", output=tmp_path / "set", rules=tmp_path / "script.py")


NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(exclude_characters=",", exclude_categories=["Cs"]), min_size=1)


@given(NUMBERS, st.lists(WORDS, min_size=1), st.booleans())
def test_the_parser_has_what_was_given(number: float, paths: list[str], truth: bool) -> None:
    words = command_words({"holdout": number, "input": paths, "text_only": truth})
    read = read_flags(words)
    assert read.ours == {"holdout": number, "input": ",".join(paths), "text_only": truth}
    assert read.others == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"min_image_sid": 3}, "unknown flag 'min_image_sid'; did you mean --min_image_side?"),
        ({"direct_num_worker": 3}, "did you mean --direct_num_workers?"),
        ({"help": True}, r"help\(alignset.curate\)"),
        ({"min_words": "three"}, "min_words: must be a whole number"),
        ({"min_words": [object()]}, "min_words: expected a text, a path or a number"),
        ({"min_words": -1}, "min_words must be >= 0; got -1"),
        ({"blocklist": ["a,b"]}, "'a,b' has a comma"),
        ({"output": ""}, "output is required"),
        ({"text_only": True, "min_image_side": 3}, "--min_image_side has no effect"),
        ({"runner": "DataflowRunner", "dry_run": "True"}, "dry_run makes no dataset"),
    ],
)
def test_a_wrong_argument_raises(flags: dict[str, Any], said: str, tmp_path: Path) -> None:
    given = {"input": "a.parquet", "output": str(tmp_path / "set")} | flags
    with pytest.raises(alignset.UsageError, match=said):
        alignset.curate(**given)
    assert not (tmp_path / "set").exists()


def test_help_names_each_flag() -> None:
    names = inspect.signature(alignset.curate).parameters
    text = inspect.getdoc(alignset.curate)
    for name in DECLARED:
        assert name in names
        assert f"\n  {name}: " in text


def arguments(run: Golden, output: Path) -> dict[str, Any]:
    """What the command of a run was given, as arguments."""
    return {"input": run.pairs, "output": output, "quiet": True, **run.arguments()}


def test_it_makes_what_the_command_makes_and_leaves_the_process_as_it_was(
    plain: Golden, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def process() -> object:
        names = ("alignset", "apache_beam.runners.common", "apache_beam.runners.worker")
        levels = [logging.getLogger(name).level for name in names]
        handlers = [*logging.getLogger().handlers], threading.excepthook, [*sys.meta_path]
        return dict(os.environ), levels, handlers

    before = process()
    dataset = alignset.curate(**arguments(plain, tmp_path / "a"))
    assert process() == before
    assert capfd.readouterr() == ("", "")
    assert digests(tmp_path / "a") == digests(plain.output)
    assert len(dataset) == alignset.Dataset(plain.output).funnel.pairs
    again = alignset.curate(**arguments(plain, tmp_path / "a") | {"quiet": False})
    assert str(again) == str(dataset)
    assert "is finished: nothing to do" in capfd.readouterr().err


def test_it_runs_in_a_thread_beside_a_running_loop(plain: Golden, tmp_path: Path) -> None:
    async def two() -> list[alignset.Dataset]:
        calls = [
            asyncio.to_thread(alignset.curate, text_only=True, **texts(plain, tmp_path / name))
            for name in ("a", "b")
        ]
        return await asyncio.gather(*calls)

    one, other = asyncio.run(two())
    assert one.kept().equals(other.kept())
    assert len(one) == one.kept().num_rows > 0


def texts(run: Golden, output: Path) -> dict[str, Any]:
    """The arguments of a run that only judges texts."""
    return {"input": run.pairs, "output": output, "quiet": True, "vocabulary_size": 1000}


def test_a_failed_run_raises_its_reason_and_resumes(
    plain: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    given = texts(plain, tmp_path / "a") | {"text_only": True}

    def fail(*_: object) -> None:
        raise OSError("no space\nleft on device")

    with monkeypatch.context() as patch:
        patch.setattr("alignset.transforms.corpus.judge_pairs.parquet_file", fail)
        with pytest.raises(alignset.FailedRunError, match=r"^left on device") as failed:
            alignset.curate(**given)
    assert isinstance(failed.value.__cause__, OSError)
    assert capfd.readouterr() == ("", "")
    assert len(alignset.curate(**given)) > 0


def test_too_little_kept_raises_and_the_dataset_is_there(plain: Golden, tmp_path: Path) -> None:
    given = texts(plain, tmp_path / "a") | {"text_only": True, "min_words": 30, "max_words": 40}
    with pytest.raises(alignset.TooLittleKeptError, match="the rule's flag is --min_words"):
        alignset.curate(**given)
    assert alignset.Dataset(tmp_path / "a").kept().num_rows == 0


def test_importing_is_light_and_lazy() -> None:
    code = """if True:
        import sys, alignset
        from alignset import curate
        heavy = {"apache_beam", "pyarrow", "numpy", "numba", "PIL"} & set(sys.modules)
        missing = {"curate", "Dataset", "FilterTexts"} - set(dir(alignset))
        assert not heavy and not missing, (heavy, missing)
    """
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert all(getattr(alignset, name) for name in alignset.__all__)
    with pytest.raises(AttributeError, match="module 'alignset' has no attribute 'curat'"):
        _ = alignset.curat
