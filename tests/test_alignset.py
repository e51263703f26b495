"""The one command: installed as pip installs it, and equal to the `python …` forms."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import alignset
from alignset.__main__ import COMMANDS, main
from alignset.pipeline.settings import DECLARED, GROUPS
from alignset.settings import First
from alignset.train.__main__ import FIRST as FIRST_OF_TRAINING
from alignset.train.classify.__main__ import FIRST as FIRST_OF_CLASSIFYING
from alignset.train.settings import HOW_IT_IS_RUN
from alignset.transforms.fetching.fetch_settings import FetchSettings
from tests.support.command import Ended, digests
from tests.support.forks import start
from tests.support.golden import TEXTS
from tests.support.root import ROOT

FROM_ANYWHERE = {**os.environ, "PYTHONPATH": str(ROOT)}
FORMS = {
    name: ("-m", f"alignset.{module.removesuffix('.__main__')}")
    for name, (module, _) in COMMANDS.items()
    if ":" not in module
} | {"curate": ("beam_runner.py",)}
LONG_S = 120  # for what takes some seconds and, where it does not end, takes for ever


class Installed(NamedTuple):
    """Where pip has put the project, and an environment in which it is found."""

    command: Path
    modules: Path
    environment: dict[str, str]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The project as pip installs it, beside the packages that are here."""
    folder = tmp_path_factory.mktemp("installed")
    source, prefix = folder / "source", folder / "prefix"
    source.mkdir()
    for name in ("beam_runner.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # The last stays out.
    for name in ("alignset", "pipeline", "transforms", "train", "demo", "flink", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    install = ("-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index")
    # Beside the clone's own, which pip would else take out of .venv.
    apart = ("--ignore-installed", "--disable-pip-version-check", f"--prefix={prefix}")
    own = Path(sys.executable).with_name("alignset")
    there = own.exists()
    ended = run(sys.executable, *install, *apart, source)
    assert ended.status == 0, ended.err
    assert own.exists() == there
    modules = Path(sysconfig.get_path("purelib", vars={"base": str(prefix)}))
    # Kernels run as plain Python: to compile them anew, where they lie now, takes 20 s of CPU.
    plain = {"NUMBA_DISABLE_JIT": "1", "PYTHONWARNINGS": "ignore"}  # of sums that go round
    environment = {**os.environ, "PYTHONPATH": str(modules), **plain}
    return Installed(prefix / "bin" / "alignset", modules, environment)


def run(*command: object, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> Ended:
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def python(*words: str) -> Ended:
    """`python WORDS`, in a fork: what each of 70 imports would take 15 s of CPU."""
    main = "tests.support.forked_workers:as_python"
    forked = start(main, *words, env={**os.environ, "COLUMNS": "80"})
    out, err = forked.communicate()
    return Ended(forked.wait(), out, err)


def test_the_whole_project_is_installed_and_no_more(installed: Installed):
    here = {path.relative_to(installed.modules) for path in installed.modules.rglob("*.py")}
    folders = [ROOT / "alignset", *filter(Path.is_dir, (ROOT / "alignset").iterdir())]
    paths = {path for folder in folders for path in folder.rglob("*.py")}
    wanted = {path.relative_to(ROOT) for path in paths}
    assert here == wanted
    for data in ("transforms/decontamination/copy_descriptor.onnx", "flink/pom.xml"):
        assert (installed.modules / "alignset" / data).read_bytes() == (ROOT / data).read_bytes()


@pytest.mark.slow
def test_curating_is_the_same_from_another_folder(installed: Installed, tmp_path: Path):
    table = pa.table({"url": [f"http://a.org/{n}" for n in range(20)], "caption": TEXTS[:20]})
    pq.write_table(table, tmp_path / "pairs.parquet")
    flags = (
        f"--input={tmp_path}/pairs.parquet",
        "--text_only",
        "--vocabulary_size=40",
        "--language=",
    )
    command = (installed.command, "curate", *flags, f"--output={tmp_path}/a")
    one = run(*command, cwd=tmp_path, env=installed.environment)
    other = python("beam_runner.py", *flags, f"--output={tmp_path}/b")
    assert (one.status, one.out) == (0, other.out), one.err
    # A clone knows its commit, and an installed one does not.
    named = json.loads((tmp_path / "b/manifest.json").read_text())["versions"]["commit"]
    for page in (tmp_path / "b").rglob("*"):
        if page.name in ("manifest.json", "README.md"):
            text = page.read_text().replace(f", commit {named}", "")
            page.write_text(text.replace(f'    "commit": "{named}",\n', ""))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    # The installed one has no compiled kernels, and says that it makes some.
    told = [
        [line for line in ended.err.splitlines() if not line.startswith("compiling kernels")][:1]
        for ended in (one, other)
    ]
    assert told[0] == told[1] != []
    again = run(*command, "--text_onl", cwd=tmp_path, env=installed.environment)
    assert again == (2, "", "alignset curate: unknown flag 'text_onl'; did you mean --text_only?\n")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with modules of a user, which have the names of our folders."""
    for name in ("train.py", "pipeline/__init__.py", "transforms.py", "signals.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('a user's own module was imported')\n")
    return tmp_path


@pytest.mark.slow
def test_a_user_may_have_modules_of_the_same_names(installed: Installed, foreign: Path):
    (foreign / "pairs.csv").write_text("url,caption\nhttp://a.org/b,a brown dog runs\n")
    flags = ("--input=pairs.csv", "--text_only", "--output=out", "--language=")
    processes = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    ended = run(
        *(installed.command, "curate", *flags, *processes), cwd=foreign, env=installed.environment
    )
    assert ended.status == 0, ended.err
    in_module = (sys.executable, "-m", "alignset.train", "--help")
    group = (sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=1", "-m", "--")
    for command in (in_module, (*group, "alignset.train", "--help")):
        for environment in (installed.environment, FROM_ANYWHERE):
            ended = run(*command, cwd=foreign, env=environment)
            assert ended.status == 0, ended.err
            assert "usage: python -m alignset.train " in ended.out


@pytest.mark.parametrize("flags", [(), ("--help",), ("-h",)])
def test_alone_it_lists_the_commands(flags: tuple[str, ...]):
    ended = python("-m", "alignset", *flags)
    assert (ended.status, ended.err) == (0, "")
    assert [line.split()[0] for line in ended.out.splitlines() if line.startswith("  ")] == [
        *COMMANDS
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("curat", "did you mean curate?"),
        ("quux", f"there are {', '.join(COMMANDS)}"),
        ("a\x1b[1m", f"there are {', '.join(COMMANDS)}"),
    ],
)
def test_an_unknown_command_is_refused(name: str, said: str):
    ended = python("-m", "alignset", name, "--help")
    expected = f"alignset: there is no command {name!r}; {said}\n"
    assert ended == (2, "", expected)


@pytest.mark.parametrize(("name", "word"), [("curate", b"--input=\xff"), ("report", b"\xff")])
def test_a_word_that_is_not_utf8_is_refused(name: str, word: bytes, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["alignset", name, os.fsdecode(word)])
    assert main() == 2
    assert "\\udcff' is not UTF-8; rename that file\n" in capsys.readouterr().err


def test_the_version_is_that_of_the_package(installed: Installed, tmp_path: Path):
    wanted = (
        f"alignset {tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['version']}\n"
    )
    there = run(installed.command, "--version", cwd=tmp_path, env=installed.environment)
    assert there == (0, wanted, "")
    assert f"alignset {alignset.__version__}\n" == wanted
    # Without what the module imports for itself.
    public = [name for name in dir(alignset) if not name.startswith("__")]
    assert public == sorted(alignset.__all__)
    minor = wanted.split()[1].rpartition(".")[0]
    assert FetchSettings().user_agent.startswith(f"alignset/{minor} ")
    # A copy of the sources beside which nothing is installed, as of a clone without pip.
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "alignset", tmp_path / "alignset")
    command = (sys.executable, "-S", "-m", "alignset", "--version")
    assert run(*command, cwd=tmp_path) == (0, wanted, "")


@pytest.mark.parametrize("name", FORMS)
def test_help_is_one_screen_and_that_of_the_other_form(name: str):
    one, other = python("-m", "alignset", name, "--help"), python(*FORMS[name], "--help")
    assert (one.status, one.err) == (other.status, other.err) == (0, "")
    assert len(one.out.splitlines()) < 24
    assert max(map(len, one.out.splitlines())) <= 80
    assert f"usage: alignset {name} " in one.out
    long, short = " ".join(FORMS[name]).replace("-m", "python -m"), f"alignset {name}"
    assert " ".join(one.out.replace(short, long).split()) == " ".join(other.out.split())


@pytest.mark.parametrize(
    ("name", "first", "titles"),
    [
        ("curate", {"": {n: "" for n, of in DECLARED.items() if of.metadata["brief"]}}, GROUPS),
        ("train", FIRST_OF_TRAINING, ["model", "images", "loss", "optimizer", HOW_IT_IS_RUN]),
        ("classify", FIRST_OF_CLASSIFYING, ["first stage", "second stage", HOW_IT_IS_RUN]),
    ],
)
def test_all_flags_are_a_word_away(name: str, first: First, titles: list[str]):
    whole = python("-m", "alignset", name, "--help=all")
    assert (whole.status, whole.err) == (0, "")
    lines = whole.out.splitlines()
    assert [f"{title}:" for title in titles if f"{title}:" not in lines] == []
    flags = {line.split()[0] for line in lines if line.startswith("  --")}
    assert {f"--{flag}" for group in first.values() for flag in group} <= flags
    assert len(flags) > 25


@pytest.mark.parametrize("name", FORMS)
def test_wrong_flags_are_answered_as_by_the_other_form(name: str):
    one, other = (python(*form, "--nix=1") for form in (("-m", "alignset", name), FORMS[name]))
    long, short = " ".join(FORMS[name]).replace("-m", "python -m"), f"alignset {name}"
    assert one.err.count("\n") == 1
    assert short in one.err
    assert (one.status, one.err.replace(short, long)) == (2, other.err)
    assert other.status == 2


def test_a_package_that_is_missing_is_one_line(tmp_path: Path):
    """`pip install .` brings no torch."""
    (tmp_path / "a.tar").write_bytes(b"")
    code = f"""if True:
        import sys
        from alignset.__main__ import main
        sys.modules["numpy"] = None
        sys.argv = ["alignset", "evaluate", "retrieval", "--model=m", "--data={tmp_path}/a.tar"]
        sys.exit(main())
        """
    ended = run(sys.executable, "-c", code)
    assert (ended.status, ended.out) == (2, "")
    assert ended.err.count("\n") == 1
    assert "is not installed for" in ended.err
    assert "pip install alignset ('.' in a clone)" in ended.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["alignset", "c"], ["curate", "cluster", "card", "classify"]),
        (["alignset", "curate", "--min_word"], ["--min_words"]),
        (["alignset", "look", "set", "--rea"], ["--reason"]),
        (["alignset", "curate", "file"], []),
        (["alignset", "nix", "--a"], []),
    ],
)
def test_bash_completes_commands_and_flags(tmp_path: Path, words: list[str], expected: list[str]):
    command = tmp_path / "alignset"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m alignset "$@"\n')
    command.chmod(0o755)
    script = f"""
        eval "$(alignset --completion)"
        COMP_WORDS=({" ".join(words)}) COMP_CWORD={len(words) - 1}
        _alignset
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """
    path = f"{tmp_path}:{os.environ['PATH']}"
    ended = run("bash", "-c", script, cwd=tmp_path, env=FROM_ANYWHERE | {"PATH": path})
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.split() == expected
