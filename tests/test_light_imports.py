"""A command imports no large package that it has no use for, so that it starts at once."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.golden_run import Golden
from tests.support.root import ROOT

LARGE = {
    *("apache_beam", "cv2", "faiss", "onnxruntime", "pycurl", "langdetect", "eldc", "spellchecker"),
    *("pycld2", "py3langid", "lxml", "resiliparse", "brotli", "publicsuffixlist"),
    *("torch", "transformers", "img2dataset", "pandas", "scipy", "numba", "jinja2", "PIL"),
    *("pyarrow", "pyarrow.compute", "pyarrow.parquet", "pyarrow.dataset", "numpy", "msgspec"),
}
ARROW = {"pyarrow", "pyarrow.compute", "pyarrow.parquet", "numpy", "msgspec"}
PAGE = {"jinja2", "PIL", *ARROW}
# Each command is run in a fork of one interpreter, which has imported nothing.
FORKS = """
import json, os, sys
from alignset import __main__ as alignset

commands, told = json.loads(sys.argv[1]), sys.argv[2]
for words in commands:
    if child := os.fork():
        os.waitpid(child, 0)
        continue
    sys.argv = ["alignset", *words]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        status = alignset.main()
    except SystemExit as ended:
        status = ended.code
    with open(told, "a") as file:
        print(json.dumps([words, status or 0, sorted(sys.modules)]), file=file)
    os._exit(0)
"""


def test_each_command_imports_only_the_large_packages_that_it_needs(plain: Golden, tmp_path: Path):
    out = str(plain.output)
    (tmp_path / "list.txt").write_text("host:a.example\n")
    named = ("look", "report", "takedown", "recheck", "deduplicate", "publish", "train", "classify")
    named += ("evaluate", "search", "curate")
    helps = [("--help",), ("--version",), *((name, "--help") for name in named)]
    expected: dict[tuple[str, ...], set[str]] = {
        **{words: set() for words in (*helps, ("curate", "--help=all"), ("train", "--help=all"))},
        ("report", out, f"--output={tmp_path}/a.html"): {"numba", *PAGE},
        ("report", "--compare", out, out, f"--output={tmp_path}/b.html"): {"numba", *PAGE},
        ("look", out, f"--output={tmp_path}/c.html"): PAGE,
        ("look", out, "--reason=dropped", f"--output={tmp_path}/d.html"): PAGE,
        ("takedown", out, f"--blocklist={tmp_path}/list.txt", "--dry_run"): {"numba", *ARROW},
        ("publish", out, "--dry_run"): {"msgspec", "numpy", "pyarrow"},
    }
    told = tmp_path / "told"
    code = [sys.executable, "-c", FORKS, json.dumps([*expected]), str(told)]
    done = subprocess.run(code, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert {tuple(words): status for words, status, _ in lines} == dict.fromkeys(expected, 0), (
        done.stderr
    )
    imported = {tuple(words): LARGE & set(modules) for words, _, modules in lines}
    assert imported == expected
