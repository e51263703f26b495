"""The command: refusals, a whole run, a killed run that ends bit-equal, two processes."""

import json
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch

from alignset.train.__main__ import main
from alignset.train.runs import processes
from alignset.train.runs.run_folder import hold_run, open_run
from tests.support.forks import start
from tests.support.killed_runs import end
from tests.support.killed_runs import start as fork_run
from tests.support.train_shards import colour_files, colour_shards, write_tar

SMALL = (
    *("--crop_px=32", "--resize_px=36", "--batch_size=8", "--steps=12", "--warmup_steps=2"),
    *("--checkpoint_every=3", "--log_every=4", "--vocabulary_size=60", "--shuffle_samples=10"),
    *("--text_dropout=0.1", "--drop_path=0.1"),  # so that random numbers have to be resumed too
)


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory) -> Path:
    """A run that nobody disturbed, as a user starts it."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    process = start("alignset.train.__main__:main", "--shards", shards, "--run", run, *SMALL)
    assert process.communicate()[1].endswith(f"done: the model is in {run / 'model'}\n")
    assert process.returncode == 0
    return run


def test_a_run_folder_says_what_made_it(finished: Path, shards: Path):
    config = json.loads((finished / "config.json").read_text())
    assert config["settings"]["batch_size"] == 8
    (only,) = config["sets"]
    assert [name for name, _ in only["shards"]] == ["00000.tar", "00001.tar"]
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert rows[-1]["epoch"] == 3  # 96 pairs are 4 epochs of 24; the first is 0
    names = sorted(path.name for path in (finished / "checkpoints").glob("*.pt"))
    assert names == ["step_000000009.pt", "step_000000012.pt"]
    assert (finished / "tokenizer" / "tokenizer.json").exists()
    assert not (finished / "shards.parts").exists()


def test_a_run_on_each_device(device: torch.device, shards: Path, tmp_path: Path):
    """By a preset for GPUs, in two passes; its model has a card."""
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run"), "--preset=one-gpu", *SMALL]
    flags += ["--image_tower=tiny", "--text_tower=tiny", "--steps=2", "--micro_batch_size=4"]
    seeded = torch.get_rng_state()
    assert main(flags) == 0
    assert torch.equal(torch.get_rng_state(), seeded)  # which is the caller's
    decided = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    has_bf16 = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    expected = "bf16" if has_bf16 else "fp32", {"cpu": 4, "cuda": 1}[device.type]
    assert (decided["precision"], decided["text_buckets"]) == expected
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        card = (folder / "README.md").read_text()
        assert f"| `precision` | {expected[0]} |" in card
        assert (folder / "curve.png").exists()


def test_a_run_tells_its_waits_and_writes_a_trace(shards: Path, tmp_path: Path, refused, capsys):
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run"), *SMALL, "--trackers="]
    for wrong in ("3", "1:4", "5:4", "2:200"):
        refused("profile must be like 10:20", main, *flags, f"--profile={wrong}")
    assert main([*flags, "--steps=4", "--profile=2:9"]) == 0  # the run ends before
    assert "the towers compute in fp32 on the CPU" in capsys.readouterr().err
    trace = json.loads((tmp_path / "run/profile.json").read_text())["traceEvents"]
    assert any("convolution" in event.get("name", "") for event in trace)
    (row,) = [json.loads(of) for of in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert 0 <= row["data_wait"] <= 1
    assert row["samples_per_second"] == pytest.approx(8 / row["step_seconds"], rel=0.01)


def test_a_run_by_siglips_loss(shards: Path, tmp_path: Path):
    run = tmp_path / "run"
    flags = ["--shards", str(shards), "--run", str(run), *SMALL, "--trackers=", "--loss=sigmoid"]
    assert main([*flags, "--steps=3", "--micro_batch_size=4", "--log_every=1"]) == 0
    decided = json.loads((run / "config.json").read_text())["settings"]
    assert (decided["temperature"], decided["loss"]) == (0.1, "sigmoid")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    # A pair's own score begins low, at 10 * cosine - 10, and costs up to 20; others cost nothing.
    assert 0 < rows[0]["loss"] < 21
    assert json.loads((run / "model/config.json").read_text())["logit_bias"] == pytest.approx(
        -10, 1
    )


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_is_a_line(
    shards: Path, tmp_path: Path, monkeypatch, capsys, error: Exception
):
    def out_of_memory(*_: object) -> None:
        raise error

    monkeypatch.setattr("alignset.train.loop.step_gradients", out_of_memory)
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run"), *SMALL, "--trackers="]
    assert main(flags) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: out of memory (process 0 of this machine): pass a smaller --mic")


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--checkpoint_activations=true", "--micro_batch_size=4")])
def test_a_compiled_run_learns_the_same(
    shards: Path, holdout: Path, tmp_path: Path, monkeypatch, more: tuple[str, ...]
):
    """With torch's own tracing, and the traced operations run as they are: compiling them for a CPU
    takes minutes."""
    backends: list[str] = []
    compile_ = torch.compile

    def traced(model, **options):
        backends.append("eager")
        return compile_(model, backend="eager", **options)

    monkeypatch.setattr(torch, "compile", traced)
    losses = []
    for compiled in ("false", "true"):
        run = tmp_path / compiled
        flags = ["--shards", str(shards), "--run", str(run), *SMALL, "--trackers=", "--steps=3"]
        flags += ["--log_every=1", "--drop_path=0", "--text_dropout=0", f"--compile={compiled}"]
        flags += more
        assert main([*flags, f"--validate={holdout}"]) == 0
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([row.get("loss", row.get("validation/loss")) for row in rows])
        assert (len(backends) > 2) == (compiled == "true" and more != ())  # each block
        assert len(backends) >= (2 if compiled == "true" else 0)  # both towers
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(900)  # 25 s of CPU, beside busy neighbours
@pytest.mark.parametrize("processes", [1, 2])
def test_kills_at_any_moment_change_nothing(processes: int):
    # More of them: python -m tests.support.killed_runs --kills=50
    kills = {1: 3, 2: 2}[processes]
    flags = [f"--kills={kills}", "--steps=9", f"--processes={processes}", f"--seed={os.getpid()}"]
    process = start("tests.support.killed_runs:training", *flags)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["bit_equal"]


def test_other_settings_or_shards_are_refused(
    finished: Path, shards: Path, tmp_path, refused, capsys
):
    run = ("--run", finished, *SMALL)
    refused("seed was 0, is 1", main, "--shards", shards, *run, "--seed=1")
    others = colour_shards(tmp_path / "other", each=13)
    refused("other shards", main, "--shards", others, *run)
    refused("holds something else", main, "--shards", shards, "--run", shards)
    below_a_file = finished / "config.json" / "run"
    refused("cannot be made", main, "--shards", shards, "--run", below_a_file)
    assert main([str(a) for a in ("--shards", shards, *run, "--log_every=5")]) == 0
    assert "is finished" in capsys.readouterr().err


def test_a_run_that_made_no_step_owns_nothing(shards: Path, tmp_path: Path, capsys):
    """A wrong flag is named, and does not keep its folder from the right one."""
    files = colour_files(0, 12)
    named = json.dumps({"said": "a red picture", "url": "x"}).encode()
    for name in list(files):
        if name.endswith(".json"):
            files[name] = named
    theirs = write_tar(tmp_path / "theirs" / "0.tar", files).parent
    run = tmp_path / "run"
    run.mkdir()
    left = run / f".config.json.{'0' * 32}"  # by a start that was killed there
    left.write_text("{")
    flags = ["--shards", str(theirs), "--run", str(run), *SMALL, "--steps=2", "--trackers="]
    assert main([*flags, "--caption_field=caption"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --caption_field=caption: no sample has an image and that field; KEY.json has "
        "said, url: name another"
    )
    captions = "--captions=json.said:1,json.sayd:2"
    assert main([*flags, "--trackers=nowhere:Nothing", captions]) == 2
    said = capsys.readouterr().err
    assert "warning: --captions: the first samples have no json.sayd\n" in said
    assert (run / "shards.npz").exists()
    with hold_run(run):  # by a start that has not come to its first step yet
        assert main(flags) == 2
    assert "is being trained already" in capsys.readouterr().err
    assert main([*flags, "--seed=3"]) == 0
    said = capsys.readouterr().err
    assert f"{run} had not made a step: it begins anew" in said
    assert "never falls (steps is 2, warmup_steps 2)" in said
    assert not left.exists()
    assert json.loads((run / "config.json").read_text())["settings"]["caption_field"] == ""
    shutil.rmtree(run / "model")
    assert main(flags) == 2  # now it has
    assert "seed was 3, is 0" in capsys.readouterr().err


def test_epochs_are_steps_over_all_samples(shards: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    flags = ["--shards", str(shards), "--run", str(run), *SMALL, "--trackers=", "--log_every=1"]
    flags.remove("--steps=12")
    assert main([*flags, "--epochs=1.2"]) == 0  # of 24 pairs, in batches of 8
    metrics = run / "metrics.jsonl"
    assert json.loads(metrics.read_text().splitlines()[-1])["step"] == 4
    assert main([*flags, "--epochs=1"]) == 0
    assert "is finished" in capsys.readouterr().err
    assert main([*flags, "--epochs=2"]) == 0
    assert "epochs was 1.2, is 2.0" in capsys.readouterr().err
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert (rows[-1]["step"], rows[-1]["epoch"]) == (6, 1)
    assert main([*flags, "--epochs=2", "--steps=9"]) == 2
    assert "--steps and --epochs both say" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_the_run_goes_on(shards: Path, tmp_path, capsys):
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run"), *SMALL, "--steps=3"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (3_000, 1_000_000):  # bytes: less than a tokenizer, a checkpoint
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
        try:
            assert main([*flags, "--trackers="]) == 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        line = capsys.readouterr().err.splitlines()[-1]
        assert line.startswith("error: ")
        assert "File too large" in line
    assert main([*flags, "--trackers="]) == 0


def test_wrong_flags_exit_2_with_one_line(shards, tmp_path, refused):
    run = tmp_path / "run"
    for flags, text in (
        (["--stepz=3"], "--stepz"),
        (["--batch_size=8", "--micro_batch_size=3"], "micro_batch_size must divide the 8 pairs"),
        (["--step=3"], "--step"),  # no abbreviations
        (["--steps=many"], "--steps"),
        (["--steps=0"], "steps must be at least 1; got 0"),
        (["--horizontal_flip=perhaps"], "must be true or false"),
        (["--preset=huge"], "--preset"),
        ([f"--shards={tmp_path}"], "no shards at"),
        (["--train-data=x"], "--train-data is not a flag here: pass --shards"),
        (["--accum-freq", "4"], "--accum-freq is not a flag here: pass --micro_batch_size"),
        (["--wandb_tags=a"], "pass --trackers=module:name, a tracker of your own"),
        (["--lr=1e-3"], "pass --learning_rate"),
        (["--steps=1", "--siglip"], "--siglip is not a flag here: pass --loss=sigmoid"),
    ):
        refused(text, main, "--shards", shards, "--run", run, *flags)
        assert not run.exists()
    refused("--shards", main, "--run", run)


@pytest.mark.slow
def test_two_processes_share_a_run(shards: Path, tmp_path: Path):
    # Without "--", torchrun on Python 3.11 takes our --run for one of its own flags.
    ours = ["-m", "--", "train", "--shards", shards, "--run", tmp_path / "run", *SMALL]
    torchrun = ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", "--nproc_per_node=2"]
    process = start("torch.distributed.run:main", *torchrun, *ours)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "FutureWarning" not in said
    state = torch.load(tmp_path / "run" / "checkpoints" / "step_000000012.pt")
    positions = [part["position"] for part in state["processes"]]
    assert [(p["samples"], p["cursors"]) for p in positions] == [(48, ((3, 12),))] * 2
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_processes_meet_before_one_works_for_all(shards: Path, tmp_path: Path, monkeypatch):
    """As it looks at all shards; and where it refuses, its line is the only one."""
    met = tmp_path / "met"

    def open_and_tell(*arguments: object) -> None:
        met.write_text(str(processes.count()))
        open_run(*arguments)

    monkeypatch.setattr("alignset.train.start.open_run", open_and_tell)
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run"), *SMALL, "--trackers="]
    log = tmp_path / "log"
    assert end(fork_run([*flags, "--steps=1"], 2, log)) == [0, 0], log.read_text()
    assert met.read_text() == "2"
    log.unlink()
    assert end(fork_run([*flags, "--steps=2", "--seed=1"], 2, log)) == [2, 1]
    (line,) = [line for line in log.read_text().splitlines() if "[W" not in line]
    assert line.startswith("error: ")
    assert "seed was 0, is 1" in line
