"""The command lines of README.md, CONTRIBUTING.md and docs/, and why some of them are not run."""

import re

from tests.support.root import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
NESTED = re.compile(r"\$\((alignset [^)]*)\)")
OURS = re.compile(r"^\S*(?:alignset|python|torchrun|srun|sbatch|make) ")
# Sentences show a flag by these: nobody runs them.
PARTS = ("alignset export --format=onnx", "alignset report OUT --FLAG=VALUE ...")
# Parts of lines, and why tests/test_pages.py does not run them.
UNTRIED = {
    "make ": "minutes, or the tests themselves; tests/lint/commands.py looks for each target",
    "data.commoncrawl.org": "the internet",
    "git clone": "no repository has a public address yet",
    "python3 -m venv": "make test installs so",
    "pip install": "from a registry; tests/test_extras.py checks the extras",
    "apt-get": "as root",
    "sysctl": "as root",
    "bin/activate": "an environment on a cluster",
    "hf ": "the Hub",
    "gcloud": "a cloud",
    "REGISTRY=": "a cloud",
    "docker": "a cloud",
    "--runner=DataflowRunner": "a cloud; tests/runs/test_dataflow.py has its protocol alone",
    "python -m open_clip_train.main": "tests/runs/test_peers.py trains its smallest model",
    "torchrun --nproc_per_node=8": "eight GPUs; tests/train/test_run.py has two processes on CPUs",
    "srun python": "eight GPUs; tests/cluster/test_slurm.py runs this script on CPUs",
    "status=$?": "of that script",
    "$status": "of that script",
    "sbatch": "Slurm; tests/cluster/test_slurm.py",
    "alignset cluster install": "Maven; make test-slow runs it",
    "alignset cluster head": "Java; tests/flink",
    "alignset cluster worker": "Java; tests/cluster",
    "alignset cluster status": "Java; tests/cluster",
    "alignset cluster flags": "Java; tests/flink and tests/cluster",
}


def page_lines() -> list[tuple[str, str]]:
    """The page and the text of each command in blocks, and in cells of tables.

    A block without a language may hold what a command prints: only our commands count there."""
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        blocks = [(kind, b.replace("\\\n", "")) for kind, b in _BLOCK.findall(text)]
        lines = [line for kind, b in blocks if kind == "sh" for line in b.splitlines()]
        lines += [ln for kind, b in blocks if not kind for ln in b.splitlines() if OURS.match(ln)]
        rows = "\n".join(row for row in text.splitlines() if row.startswith("|"))
        lines += re.findall(r"`(alignset \w+ [^`]+)`", rows)
        lines += [nested for line in lines for nested in NESTED.findall(line)]
        found += [(path.relative_to(ROOT).as_posix(), line.strip()) for line in lines]
    return [at for at in found if at[1] and at[1][0] != "#" and at[1] not in PARTS]


def why_untried(line: str) -> str:
    """Why a line is not run, "" for one that is."""
    command = line.partition(" #")[0]
    return next((why for part, why in UNTRIED.items() if part in command), "")
