"""Kills a run again and again, whatever it is doing, and compares it with one left in peace.

Both validate while they train, and a third, which does not, has to end with the same bytes.

    python -m tests.support.killed_runs --kills=50 --processes=2

One process has imported all; each start is a fork of it, so that a start costs half a second.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

STOPPED = 130  # the status of a run that was asked to stop
SMALL = (
    *("--crop_px=32", "--resize_px=36", "--batch_size=8", "--warmup_steps=2"),
    *("--checkpoint_every=2", "--log_every=1", "--vocabulary_size=60", "--shuffle_samples=10"),
    *(
        "--trackers=",
        "--text_dropout=0.1",
        "--drop_path=0.1",
    ),  # so that random numbers have to be resumed too
)


def start(arguments: list[str], processes: int, log: Path) -> list[int]:
    """Starts the command as torchrun would, and gives the ids of its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = []
    for rank in range(processes):
        process = os.fork()
        if process:
            started.append(process)
            continue
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115 (not a test's own)
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            os.environ |= {"WORLD_SIZE": str(processes), "MASTER_PORT": str(port)}
            os.environ["MASTER_ADDR"] = "127.0.0.1"
        from alignset.train.__main__ import main

        code = 70  # where it raises
        try:
            code = main(arguments)
        finally:
            os._exit(code)
    return started


def end(started: list[int]) -> list[int]:
    return [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in started]


def kill_at_random(run: Path, started: list[int], rng: random.Random) -> None:
    """After some checkpoints, at any moment of a step: half of it goes into writing them.

    Every other time by SIGTERM while it trains, for which it writes a checkpoint at any step.
    """
    steps, signum = len(rows(run)), rng.choice([signal.SIGKILL, signal.SIGTERM])
    wanted = steps + rng.randint(1 if signum == signal.SIGTERM else 0, 3)
    give_up = time.monotonic() + 60
    while len(rows(run)) < wanted and time.monotonic() < give_up:
        if os.waitid(os.P_PID, started[0], os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.005)
    time.sleep(rng.uniform(0, 0.3))
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signum)


def rows(run: Path) -> list[str]:
    path = run / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def measures(run: Path, *, validated: bool = True) -> list[dict]:
    """The rows of its metrics, without times."""
    metrics = [json.loads(row) for row in rows(run)]
    return [
        {
            name: value
            for name, value in row.items()
            if "seconds" not in name and "_second" not in name and name != "data_wait"
        }
        for row in metrics
        if validated or "validation/n" not in row
    ]


def outcome(run: Path) -> dict[str, object]:
    """What is left of it, but for the validation: its model, and its last checkpoint's values. (The
    checkpoint's bytes also tell which of its strings are one object.) Arrays by their hashes: on
    CI, pytest looked for the difference of two models for more than five minutes."""
    import torch

    state = torch.load(max((run / "checkpoints").glob("*.pt")))
    return {"model": _digest((run / "model/model.safetensors").read_bytes())} | leaves(state)


def leaves(value, path: str = "") -> dict[str, object]:
    """What is in dictionaries and lists of each other, by its path."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        parts = [leaves(item, f"{path}/{name}") for name, item in items]
        return {name: leaf for part in parts for name, leaf in part.items()}
    return {path: _digest(value.numpy().tobytes()) if hasattr(value, "numpy") else value}


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def best(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / "model-best").iterdir())}


def kill_runs(kills: int, processes: int, seed: int, steps: int, threads: int) -> None:
    os.environ |= {"OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    import torch

    import alignset.train.loop
    from tests.support.train_shards import colour_files, colour_shards, write_tar

    assert alignset.train.loop
    torch.set_num_threads(threads)
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        shards = colour_shards(at / "a", shards=3, each=9)
        other = write_tar(at / "b.tar", colour_files(50, 7) | {"bad.jpg": b"", "bad.txt": b"x"})
        flags = [f"--shards={shards}::2,{other}::1", "--max_skipped_share=0.5", *SMALL]
        flags.append(f"--steps={steps}")
        log = at / "log"
        plain, whole = at / "plain", at / "whole"
        held_out = [f"--validate={shards}", "--validate_every=3"]
        for run, more in ((plain, []), (whole, held_out)):
            if any(end(start([*flags, *more, f"--run={run}"], processes, log))):
                raise SystemExit(f"the run that nobody disturbed failed:\n{log.read_text()}")
        killed, run = 0, at / "killed"
        starts = 0
        while not (run / "model").exists():
            starts += 1
            started = start([*flags, *held_out, f"--run={run}"], processes, log)
            if killed < kills:
                kill_at_random(run, started, rng)
            codes = end(started)
            if -signal.SIGKILL in codes or STOPPED in codes:
                killed += 1
                if run.exists() and not (run / "model").exists():  # else nothing cuts it off again
                    with open(run / "metrics.jsonl", "a") as file:
                        file.write('{"step": 4, "los')  # a line that was being written
            # By the signal itself where it came before the run listens, or after it has ended.
            expected = (0, -signal.SIGKILL, -signal.SIGTERM, STOPPED)
            if any(code not in expected for code in codes):
                raise SystemExit(f"it failed with {codes} after {killed} kills:\n{log.read_text()}")
        same = (outcome(run), best(run), measures(run)) == (
            outcome(whole),
            best(whole),
            measures(whole),
        )
        unchanged = outcome(plain) == outcome(whole) and measures(plain) == measures(
            whole, validated=False
        )
        print(json.dumps({"kills": killed, "starts": starts, "bit_equal": same and unchanged}))
        if not same:
            raise SystemExit("the killed run's weights or measures are not the undisturbed one's")
        if not unchanged:
            raise SystemExit("the run that validates ends with other weights than one without")


def training(args: list[str]) -> int:
    """The command; returns 0, or raises."""
    flags = argparse.ArgumentParser(description=__doc__)
    numbers = {"kills": 10, "processes": 1, "seed": 0, "steps": 24, "threads": 1}
    for name, default in numbers.items():
        flags.add_argument(f"--{name}", type=int, default=default)
    kill_runs(**vars(flags.parse_args(args)))
    return 0


if __name__ == "__main__":
    sys.exit(training(sys.argv[1:]))
