"""The whole command over the golden set: every pair meets its fate, and every file says so."""

import gc
import hashlib
import os
import site
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alignset
from alignset import beam_runner, version
from alignset.pipeline.runs.beam_patches import quick_imports
from tests.support.agreement import check_dataset
from tests.support.command import DOCUMENTS, ROOT, digests, fates, manifest, run, run_fork
from tests.support.golden import TEXTS
from tests.support.golden_run import Golden


def test_every_pair_meets_its_fate(golden: Golden):
    met, expected = fates(golden.output), Counter(golden.fates)
    assert met - expected == Counter()
    assert expected - met == Counter()


@pytest.mark.parametrize("name", ["golden", "plain"])
def test_all_that_tells_of_the_golden_sets_agrees(name: str, request: pytest.FixtureRequest):
    run: Golden = request.getfixturevalue(name)
    check_dataset(run.output)


def test_a_run_leaves_the_contracts_files_and_no_other(golden: Golden):
    shards = manifest(golden.output)["shards"]
    parts = {
        f"shards/{name}{end}" for name in shards for end in (".tar", ".parquet", "_stats.json")
    }
    texts = {"rejected/text-00000.parquet"}
    images = {f"rejected/images-{name}.parquet" for name in shards}
    assert digests(golden.output).keys() == parts | texts | images | DOCUMENTS


def test_the_manifest_describes_the_run(golden: Golden):
    described = manifest(golden.output)
    assert described["rules"]["max_images_per_text"] == 3
    assert described["rules"]["max_words"] == 20
    ends = hashlib.sha256(2 * golden.pairs.read_bytes()[: 64 << 10]).hexdigest()  # a small file
    size = {"bytes": golden.pairs.stat().st_size, "format": "parquet", "ends": ends}
    assert described["input"] == [{"path": str(golden.pairs), **size}]
    assert described["evaluation_images"] == {"exam": {"images": 1, "unreadable": 1}}
    assert described["versions"].keys() >= {"apache-beam", "pyarrow", "pillow"}


def test_a_failed_run_is_one_last_line_and_status_1(tmp_path: Path):
    """Evaluation images are read while running: by then no flag is wrong."""
    pairs, exam = tmp_path / "a.parquet", tmp_path / "exam.parquet"
    pq.write_table(pa.table({"url": ["http://a.org"], "caption": [TEXTS[0]]}), pairs)
    pq.write_table(pa.table({"image": [b"no picture"]}), exam)
    ended = run_fork(f"--input={pairs}", f"--output={tmp_path}/set", f"--eval_images=e={exam}")
    assert (ended.status, ended.out) == (1, "")
    *progress, last = ended.err.splitlines()
    assert last.startswith("beam_runner.py: failed: ")
    assert "none of the 1 of e can be decoded" in last
    assert "the same command tries again from here" in last
    assert not [line for line in progress if "rror" in line or line.startswith((" ", "WARN"))]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("hf://datasets/a/b.parquet: [Errno -2] Name or service not known", "check its name"),
        ("[Errno -3] Temporary failure in name resolution", "check its name"),
        ("the disk is full", "the same command tries again from here"),
    ],
)
def test_advice_is_what_mends_the_failure(error: str, advice: str) -> None:
    bucket = "there is no s3://bucket: create it, or pass another"
    assert beam_runner.last_line(OSError(bucket)) == f"failed: {bucket}"
    line = beam_runner.last_line(OSError(error))
    assert line.startswith(f"failed: {error} (")
    assert advice in line
    assert ("tries again" in line) == (error == "the disk is full")


@pytest.mark.parametrize("where", ["in a header", "in a file"])
def test_the_only_shard_that_is_truncated_is_named(tmp_path: Path, golden: Golden, where: str):
    path = golden.output / "shards" / "00000.tar"
    with tarfile.open(path) as tar:
        member = tar.getmembers()[9]
    size = member.offset + 100 if where == "in a header" else member.offset_data + 1
    (tmp_path / "cut.tar").write_bytes(path.read_bytes()[:size])
    for _ in range(2):  # and again, since the same command resumes
        ended = run(tmp_path / "cut.tar", tmp_path / "set")
        assert ended.status == 1
        assert "Traceback" not in ended.err
        last = ended.err.splitlines()[-1]
        assert f"{tmp_path}/cut.tar to its end: it is cut off at byte {size}" in last
        assert last.endswith("; replace the file or give other input, with another --output")


def python(code: str) -> list[str]:
    """What a script of its own prints, line by line."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_is_hidden_at_the_start_can_be_imported_after_it(tmp_path: Path):
    """And a run over texts imports neither pandas nor scipy."""
    pairs = {"url": ["http://a.org/1"], "caption": [TEXTS[0]]}
    pq.write_table(pa.table(pairs), tmp_path / "a.parquet")
    args = [f"--input={tmp_path}/a.parquet", f"--output={tmp_path}/set", "--text_only"]
    said = python(f"""if True:
        import gc, sys
        import alignset
        from alignset import beam_runner
        from alignset.pipeline.runs.beam_patches import quick_imports
        with quick_imports():
            import apache_beam, numba
            print(gc.isenabled())
            for name in ("pandas", "scipy"):
                try:
                    __import__(name)
                except ModuleNotFoundError as error:
                    print(error.name)
        assert beam_runner.main({args!r}) == 0
        packages = "apache_beam", "numba", "pyarrow", "pandas", "scipy"
        print(gc.isenabled(), *(name for name in packages if name in sys.modules))
        import pandas, scipy.stats
        print(len(pandas.DataFrame({{"a": [1, 2]}})), scipy.stats.norm.cdf(0.0))
        """)
    hidden, (*_, imported, used) = said[:3], said
    assert hidden == ["False", "pandas", "scipy"]
    assert imported == "True apache_beam numba pyarrow"
    assert used == "2 0.5"
    assert fates(tmp_path / "set").total() == 1


def test_a_start_that_fails_hides_nothing_after_it():
    finders = list(sys.meta_path)
    with pytest.raises(OSError, match="the disk"), quick_imports():
        raise OSError("the disk")
    assert sys.meta_path == finders
    assert gc.isenabled()
    assert beam_runner.main(["--help_me"]) == 2
    assert gc.isenabled()


@pytest.mark.parametrize(
    "words",
    [
        ("beam_runner.py", "--input=a", "--output=b"),
        ("-m", "alignset", "look", "a"),
        ("-m", "alignset", "report", "a"),
        ("-m", "alignset", "takedown", "a", "--blocklist=b"),
    ],
)
def test_outside_its_environment_it_says_so_on_one_line(words: tuple[str, ...]):
    command = [sys.executable, "-S", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is not installed for" in done.stderr
    assert ".venv/bin/python" in done.stderr


def test_site_packages_are_not_put_before_the_standard_library(monkeypatch: pytest.MonkeyPatch):
    """A backport there, such as dataclasses, ended every worker process."""
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(ROOT)])
    with pytest.raises(SystemExit):
        beam_runner.main(["--help"])
    assert os.environ["PYTHONPATH"] == "elsewhere"
    monkeypatch.setattr(site, "getsitepackages", list)
    with pytest.raises(SystemExit):
        beam_runner.main(["--help"])
    assert os.environ["PYTHONPATH"] == f"{ROOT}{os.pathsep}elsewhere"


def test_a_dataset_tells_which_version_made_it(golden: Golden) -> None:
    versions = manifest(golden.output)["versions"]
    assert next(iter(versions)) == "alignset"
    assert versions["alignset"] == alignset.__version__
    assert len(versions["sources"]) == 12
    assert versions.get("commit", "") == version.commit()
    card = (golden.output / "README.md").read_text()
    assert f"\nalignset {alignset.__version__}, " in card


def test_the_commit_is_that_of_the_clone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version.commit.cache_clear()
    if (ROOT / ".git").exists():
        words = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
        head = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        assert version.commit().removesuffix("-dirty") == head
    monkeypatch.setattr(version, "ROOT", tmp_path)  # as where it is installed
    version.commit.cache_clear()
    assert version.commit() == ""
    (tmp_path / ".git").mkdir()  # which is not a repository
    version.commit.cache_clear()
    assert version.commit() == ""
    version.commit.cache_clear()
