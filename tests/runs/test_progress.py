"""What whole runs show while they work: after a resume, on a terminal and in a log, with worker
processes; and that nothing else is said."""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.command import digests, funnel, run_fork, stop
from tests.support.golden_run import Golden
from tests.support.small_web import PATIENT, SmallWeb
from tests.support.terminal import Terminal

# Worker processes import for 12 s of CPU, which take minutes beside busy neighbours.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STOPPED = "beam_runner.py: stopped; the same command resumes from the last finished shard"
PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
# Speeds and times may have any value, since the machine may be slow.
PARTS = (
    *("starting", r"[\d:]+ left", r"\d+\.\d s", r"[\d.]+ pairs/s"),
    *(r"[\d.]+% kept", r"[\d.]+% failed \([^)]*\)"),
)
LINE = re.compile(
    r"(?:image stage: )?(\d+) of (\d+) shards?, (\d+) of (\d+) pairs?"
    f"(?:, (?:{'|'.join(PARTS)}))*"
)
COMPILING = "compiling kernels for this machine: about 30 s, once"


@pytest.fixture
def slow_web(web: SmallWeb) -> Iterator[SmallWeb]:
    """Pairs come all the while, so that their speed is shown."""
    web.delay_s = 0.1
    yield web
    web.delay_s = 0.0


def flags_of(plain: Golden, output: Path) -> tuple[str, ...]:
    return (f"--input={plain.pairs}", f"--output={output}", *plain.flags)


def pairs_of_shards(output: Path) -> dict[int, int]:
    """How many pairs each whole shard was given."""
    paths = output.glob("shards/*_stats.json")
    stats = [json.loads(path.read_text()) for path in paths]
    return {shard["shard"]: shard["count"] for shard in stats}


def images_lines(said: str) -> list[str]:
    """What is said from the image stage on."""
    lines = said.splitlines()
    (at,) = [n for n, line in enumerate(lines) if " to fetch" in line or " to read" in line]
    return lines[at:]


def numbers(line: str) -> list[int]:
    """The numbers of a line of progress: shards, all shards, pairs, all pairs."""
    read = LINE.fullmatch(line)
    assert read, line
    return [int(number) for number in read.groups()]


def test_after_a_kill_the_line_counts_what_is_done_and_what_is_left(
    plain: Golden, web: SmallWeb, tmp_path: Path
):
    output, args = (
        tmp_path / "set",
        (*flags_of(plain, tmp_path / "set"), "--connections=8", *PATIENT),
    )
    whole = pairs_of_shards(plain.output)
    assert len(whole) == 3
    total = sum(whole.values())
    first, *others = (plain.paths_of_shard(number) for number in range(3))
    # One of each other shard, so that connections are left for all of the first.
    lacking = {min(paths - first) for paths in others}
    with web.holding(lambda path: path in lacking):
        stop(args, tmp_path, lambda: bool(pairs_of_shards(output)), signal.SIGKILL)
    done = pairs_of_shards(output)
    assert list(done) == [0]
    left = total - sum(done.values())
    for count in output.glob("_temporary/attempts/*/count"):
        count.write_text("1")  # a killed attempt's pairs are fetched again
    ended = run_fork(*args)
    begun, *lines, end = images_lines(ended.err)
    assert begun == f"2 of 3 shards are left, {left} of {total} pairs to fetch"
    assert end == f"done: {output}", (ended.err, funnel(output)["fetch"])
    assert numbers(lines[-1]) == [3, 3, total, total]
    assert ended.out  # the funnel, and nothing of the progress
    assert "pairs/s" not in ended.out
    assert not re.search(r"[\r\x1b]", ended.err)
    assert digests(output) == digests(plain.output)


def test_a_terminal_shows_pairs_of_a_shard_that_is_not_whole(
    plain: Golden, slow_web: SmallWeb, tmp_path: Path
):
    slow_web.delay_s = 0.3
    flags = [flag for flag in plain.flags if not flag.startswith("--samples_per_shard")]
    args = (
        f"--input={plain.pairs}",
        f"--output={tmp_path / 'set'}",
        *flags,
        "--connections=4",
        *PATIENT,
    )
    with Terminal(*args) as terminal:
        terminal.wait_for("pairs/s")
        slow_web.delay_s = 0
        assert terminal.end() == 0, terminal.screen
    drawn = re.findall(r"(\d+ of \d+ shards?, [^|\r]*) \|[^|]*\| +[\d.]+ pairs/s", terminal.screen)
    shown = [numbers(text) for text in drawn]
    total = sum(pairs_of_shards(plain.output).values())
    assert shown[0][:2] == [0, 1]
    assert 0 < shown[0][2] < total == shown[0][3]
    assert shown == sorted(shown)
    final = [line for line in terminal.lines() if line.startswith("image stage: ")]
    assert [numbers(line) for line in final] == [[1, 1, total, total]]
    assert not [line for line in terminal.lines() if " left" in line.replace("pairs left", "")]


def workers_of(process: int) -> list[int]:
    """Beam's worker processes of a command."""
    workers = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == process and b"sdk_worker_main" in path.read_bytes():
                workers.append(int(path.parent.name))
    return workers


def test_control_c_with_worker_processes(plain: Golden, slow_web: SmallWeb, tmp_path: Path):
    args = (*flags_of(plain, tmp_path / "set"), "--connections=2", *PATIENT)
    with Terminal(*args, *PROCESSES) as terminal:
        terminal.wait_for("pairs/s")
        assert len(workers_of(terminal.process)) >= 2
        terminal.press_control_c()
        assert terminal.end() == 1, terminal.screen
    assert workers_of(terminal.process) == []
    *before, last = terminal.lines()
    assert last == STOPPED
    said = [line for line in before if line not in (COMPILING, "")]
    assert [line.partition(" ")[0] for line in said] == ["reading", "text", "3"], said
    slow_web.delay_s = 0
    # From another folder: its worker processes find the project all the same.
    environment = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
    with Terminal(*args, *PROCESSES, cwd=tmp_path, env=environment) as terminal:
        assert terminal.end() == 0, terminal.screen
    total = sum(pairs_of_shards(plain.output).values())
    (end,) = [line for line in terminal.lines() if line.startswith("image stage: ")]
    assert numbers(end) == [3, 3, total, total]
    assert digests(tmp_path / "set") == digests(plain.output)
