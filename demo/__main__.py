"""The whole story on one machine, on a small web of its own.

Builds a small web, serves it, curates it, compares the result with the truth, trains a tiny model
on the shards and evaluates it on scenes that it has not seen. Each command is printed as a user
would type it.
"""

import argparse
import contextlib
import json
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pyarrow.parquet as pq

from alignset.demo.compare import compare, read_run
from alignset.demo.picture import draw_picture
from alignset.demo.serve import serving
from alignset.demo.web import build
from alignset.extras import missing_extra

NEEDED_BYTES = (
    1 << 30
)  # the web, the dataset and the run take 300 MB; the rest is for temporary files
NAME = "python -m alignset.demo"
STEPS = 7
# Half of the preset's steps: R@1 is 65.5 and 62.0 %.
TRAINING = ("--preset", "tiny", "--steps=200", "--learning_rate=3e-3", "--warmup_steps=20")


class StepError(Exception):
    """A step did not work; the message is all that the user needs."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


class StepLines:
    """A line when a step begins, with what it takes, and one when it ends, with its seconds."""

    def __init__(self) -> None:
        self._number = 0

    @contextlib.contextmanager
    def step(self, title: str, about: str = "") -> Iterator[None]:
        """Tells of a step; `about`: how long it takes on 2 cores, where that is more than 10 s."""
        self._number += 1
        takes = f", about {about}" if about else ""
        print(f"\n{self._number} of {STEPS}: {title}{takes}", flush=True)
        start = time.perf_counter()
        yield
        print(f"      {time.perf_counter() - start:.0f} s", flush=True)


def command_line(*arguments: object) -> list[str]:
    """`alignset` with these arguments, by the Python that runs this."""
    return [sys.executable, "-m", "alignset", *map(str, arguments)]


def run(command: list[str], *, capture: bool = False) -> str:
    """Runs a command, its output shown or given back.

    Raises:
      StepError: naming the command.
    """
    shown = shlex.join(command[2:])
    print(f"      $ {shown}\n", end="", flush=True)  # in one piece: two may run at once
    done = subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE if capture else None
    )
    if done.returncode:
        raise StepError(f"exit status {done.returncode} from: {shown}")
    return done.stdout or ""


def check_disk(output: Path) -> None:
    """Raises StepError where less than 1 GiB is free."""
    output.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(output).free
    if free < NEEDED_BYTES:
        raise StepError(
            f"{output} has {free / 1e6:,.0f} MB free and the demo needs {NEEDED_BYTES / 1e6:,.0f}: "
            "make room, or choose another --output"
        )


def free_port(wanted: int) -> int:
    """The wanted port of loopback, or another where something else listens on it."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise StepError("no port of 127.0.0.1 can be served on: is the loopback interface up?")


def built_port(web: Path) -> int:
    """The port in the URLs of a web that was built before, else the usual one."""
    mark = web / "built.json"
    return json.loads(mark.read_text())["port"] if mark.exists() else 8765


def prepare_web(web: Path, port: int, *, small: bool) -> None:
    """Builds the web unless this very one is there."""
    wanted = json.dumps({"port": port, "small": small})
    mark = web / "built.json"  # written last
    if mark.exists() and mark.read_text() == wanted:
        print(f"      it is in {web} already")
        return
    mark.unlink(missing_ok=True)
    for stale in ("set", "run", "index"):  # they were made of another web
        shutil.rmtree(web.parent / stale, ignore_errors=True)
    build(web, small=small, port=port)
    mark.write_text(wanted)


def curate_command(web: Path, output: Path, flags: Mapping[str, object]) -> list[str]:
    """Makes the command on a built web, with the flags that its truth was made for."""
    return command_line(
        "curate",
        f"--input={web / 'pairs.parquet'}",
        f"--output={output}",
        f"--eval_images=scenes={web / 'eval'}",
        "--allow_private_addresses",
        "--holdout=0.02",
        "--holdout_copies=keep",  # the truth is by pair, and the photographs have copies on purpose
        *(f"--{name}={value}" for name, value in flags.items()),
    )


def funnel_lines(funnel: Mapping) -> list[str]:
    """A line for each step: what it saw and kept, and what it dropped by reason."""
    lines = []
    for step in funnel["steps"]:
        dropped = ", ".join(f"{n:,} {reason}" for reason, n in step["dropped"].items() if n)
        lines.append(
            f"      {step['step']:<16} {step['seen']:>6,} -> {step['kept']:>6,}  {dropped}"
        )
    return lines


def tell_agreement(web: Path, output: Path) -> None:
    comparison = compare(pq.read_table(web / "truth.parquet"), read_run(output))
    print(f"      {comparison.agreeing:,} of {comparison.total:,} pairs came out as they should")
    for difference in comparison.differences[:10]:
        print(f"      differs: {difference}")


def tell_retrieval(result: Mapping) -> None:
    for way in ("image_to_text", "text_to_image"):
        print(
            f"      {way.replace('_', ' ')}: R@1 {result[way]['R@1']:.1f} %, "
            f"by chance {result['chance'][way]['R@1']:.1f} %, "
            f"of {result['n']} scenes that were not trained on"
        )


def make_index(model: Path, shards: Path, index: Path) -> int:
    """Makes an index anew; gives how many images it has."""
    shutil.rmtree(index, ignore_errors=True)
    made = command_line("search", "index", "--model", model, "--data", shards)
    return json.loads(run([*made, "--index", str(index)], capture=True))["rows"]


def search_pictures(index: Path) -> None:
    """Prints what is nearest to a text, an image, and their sum."""
    by_text = search(index, "--text", "three red stars")
    print(by_text, end="")
    picture = ("--key", by_text.splitlines()[1].split()[2])  # behind the heads: rank, score, key
    both = (*picture, "--text", "blue", 1, "--text", "red", -1)
    with ThreadPoolExecutor() as together:
        tables = [*together.map(lambda terms: search(index, *terms), (picture, both))]
    print("".join(tables), end="")


def search(index: Path, *terms: object) -> str:
    """The table of the three nearest images."""
    flags = (*terms, "--n", 3, "--format", "table")
    return run(command_line("search", "query", index, *flags), capture=True)


def tell_story(output: Path, port: int, *, small: bool) -> None:
    """All steps, one after the other.

    Raises:
      StepError: at the first that does not work.
    """
    web, curated, training = output / "web", output / "set", output / "run"
    progress = StepLines()
    check_disk(output)
    with progress.step(
        "Building a small web: photographs, scenes, and what goes wrong on the web",
        "20 s" if small else "1 minute",
    ):
        prepare_web(web, port, small=small)
    flags = json.loads((web / "flags.json").read_text())
    serve = progress.step(f"Serving it on port {port}; fetching and filtering", "1 minute")
    with serve, serving(web, port):
        run(curate_command(web, curated, flags), capture=True)  # its funnel is told below
    with progress.step("Comparing what was kept and dropped with the truth"):
        print("\n".join(funnel_lines(json.loads((curated / "funnel.json").read_text()))))
        tell_agreement(web, curated)
        draw_picture(curated, web).save(output / "picture.webp", quality=80, method=6)
    with progress.step("Training a tiny ALIGN on the shards", "1 to 2 minutes"):
        data = ("--shards", curated / "shards", "--validate", curated / "holdout")
        run(command_line("train", *data, "--output", training, *TRAINING))
    model = ("--model", training / "model", "--data", web / "eval")
    evaluate = ("evaluate", "retrieval", *model)
    with (
        progress.step(
            "Evaluating retrieval among scenes whose combinations of words it never saw; "
            "making an index of the kept pictures meanwhile",
            "15 s",
        ),
        ThreadPoolExecutor(1) as beside,
    ):
        rows = beside.submit(make_index, training / "model", curated / "shards", output / "index")
        tell_retrieval(json.loads(run(command_line(*evaluate), capture=True).splitlines()[-1]))
        print(f"      {rows.result():,} pictures are in the index")
    with progress.step("Searching the kept pictures by text, by picture, and by both", "15 s"):
        search_pictures(output / "index")
    with progress.step("Where to look"):
        tell_places(output)


def tell_places(output: Path) -> None:
    """Where each thing is that the steps have made."""
    curated, training = output / "set", output / "run"
    print(f"      {output / 'picture.webp'}: the funnel, and some kept and dropped pairs")
    print(f"      {curated / 'funnel.json'}: what each step saw, kept and dropped")
    print(f"      {curated / 'shards'}: the kept pairs, as WebDataset and Parquet")
    print(f"      {curated / 'holdout'}: those that the training was validated on")
    print(f"      {curated / 'rejected'}: every dropped pair with its reason")
    print(f"      {training / 'model'}: the model, for transformers.AlignModel.from_pretrained")
    beside = Path(sys.executable).with_name("alignset")
    search = f"{'alignset' if shutil.which('alignset') else beside} search serve {output / 'index'}"
    print(f"      {search}: the page that searches")


def main(argv: Sequence[str], name: str = NAME) -> int:
    """Runs the demo; returns its exit status."""
    parser = _Parser(prog=name, description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--output", type=Path, default=Path("out/demo"))
    parser.add_argument(
        "--port", type=int, help="where the web is served on loopback (default: 8765 or a free one)"
    )
    parser.add_argument("--small", action="store_true", help="a web of 700 pairs, for a quick look")
    arguments = parser.parse_args(argv)
    if missing := missing_extra("demo", "the demo"):
        print(f"{name}: {missing}", file=sys.stderr)
        return 2
    start = time.perf_counter()
    try:
        port = arguments.port or free_port(built_port(arguments.output / "web"))
        tell_story(arguments.output, port, small=arguments.small)
    except (StepError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command resumes from here", file=sys.stderr)
        return 1
    print(f"\nDone in {time.perf_counter() - start:.0f} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
