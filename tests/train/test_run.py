"""The command: refusals, a whole run, a killed run that ends bit-equal, two processes."""

import json
import os
import resource
import shutil
from pathlib import Path

import pytest
import torch

from alignset.train.__main__ import main
from alignset.train.evaluate.__main__ import main as evaluate
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
def shards(tmp_path_factory) -> Path:
    return colour_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def holdout(tmp_path_factory) -> Path:
    return colour_shards(tmp_path_factory.mktemp("held"), shards=1)


@pytest.fixture(scope="module")
def finished(shards, tmp_path_factory) -> Path:
    """A run that nobody disturbed, as a user starts it."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    process = start("alignset.train.__main__:main", "--shards", shards, "--run", run, *SMALL)
    assert process.communicate()[1].endswith(f"done: the model is in {run / 'model'}\n")
    assert process.returncode == 0
    return run


def weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


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
    assert main(flags) == 0
    decided = json.loads((tmp_path / "run" / "config.json").read_text())["settings"]
    expected = {"cpu": ("fp32", 4), "cuda": ("bf16", 1)}[device.type]
    assert (decided["precision"], decided["text_buckets"]) == expected
    for folder in (tmp_path / "run", tmp_path / "run" / "model"):
        card = (folder / "README.md").read_text()
        assert f"| `precision` | {expected[0]} |" in card
        assert (folder / "curve.png").exists()


@pytest.mark.slow
def test_a_compiled_run_learns_the_same(shards: Path, holdout: Path, tmp_path: Path, monkeypatch):
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
        assert main([*flags, f"--validate={holdout}"]) == 0
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([row.get("loss", row.get("validation/loss")) for row in rows])
        assert len(backends) == (2 if compiled == "true" else 0)  # both towers
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


def test_other_settings_or_shards_are_refused(finished: Path, shards: Path, tmp_path, capsys):
    def refused(*arguments) -> str:
        assert main([str(a) for a in arguments]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    run = ("--run", finished, *SMALL)
    assert "seed was 0, is 1" in refused("--shards", shards, *run, "--seed=1")
    others = colour_shards(tmp_path / "other", each=13)
    assert "other shards" in refused("--shards", others, *run)
    assert "holds something else" in refused("--shards", shards, "--run", shards)
    below_a_file = finished / "config.json" / "run"
    assert "cannot be made" in refused("--shards", shards, "--run", below_a_file)
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
    flags = ["--shards", str(theirs), "--run", str(run), *SMALL, "--steps=2", "--trackers="]
    assert main([*flags, "--caption_field=caption"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: --caption_field=caption: no sample has an image and that field; KEY.json has "
        "said, url: name another"
    )
    assert main([*flags, "--trackers=nowhere:Nothing", "--caption_field=said"]) == 2
    assert (run / "shards.npz").exists()
    with hold_run(run):  # by a start that has not come to its first step yet
        assert main(flags) == 2
    assert "is being trained already" in capsys.readouterr().err
    assert main([*flags, "--seed=3"]) == 0
    assert f"{run} had not made a step: it begins anew" in capsys.readouterr().err
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


def test_a_run_is_trained_by_one_start_at_a_time(shards: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    run.mkdir()
    left = run / f".config.json.{'0' * 32}"  # by a start that was killed there
    left.write_text("{")
    flags = ["--shards", str(shards), "--run", str(run), *SMALL, "--steps=2"]
    assert main([*flags, "--trackers=nowhere:Nothing"]) == 2
    with hold_run(run):
        assert main(flags) == 2
        assert "is being trained already" in capsys.readouterr().err
    assert main(flags) == 0
    assert not left.exists()
    assert "never falls (steps is 2, warmup_steps 2)" in capsys.readouterr().err


def test_wrong_flags_exit_2_with_one_line(shards, tmp_path, capsys):
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
        (["--steps=1", "--siglip"], "--siglip is not a flag here: pass nothing: the loss"),
    ):
        assert main(["--shards", str(shards), "--run", str(run), *flags]) == 2
        error = capsys.readouterr().err
        assert text in error
        assert error.count("\n") == 1
        assert not run.exists()
    assert main(["--run", str(run)]) == 2
    assert "--shards" in capsys.readouterr().err


def test_evaluate_refusals(finished: Path, shards: Path, tmp_path, capsys):
    model = ["--model", str(finished / "model")]
    cut = str(shutil.copytree(finished / "model", tmp_path / "cut"))
    os.truncate(tmp_path / "cut" / "model.safetensors", 5000)
    for arguments, says in (
        (["zero_shoot", *model, "--data", str(shards)], "did you mean zero_shot?"),
        (["retrieval", *model, "--data", str(tmp_path)], "no shards at"),
        (
            ["retrieval", "--model", str(tmp_path), "--data", str(shards)],
            f"no model at {str(tmp_path)!r}",
        ),
        (["retrieval", "--model", cut, "--data", str(shards)], f"no AlignModel at {cut!r}"),
        (["guess", *model, "--data", str(shards)], "guess"),
    ):
        assert evaluate(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert says in captured.err
        assert captured.err.count("\n") == 1


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

    monkeypatch.setattr("alignset.train.runs.run_folder.open_run", open_and_tell)
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run"), *SMALL, "--trackers="]
    log = tmp_path / "log"
    assert end(fork_run([*flags, "--steps=1"], 2, log)) == [0, 0], log.read_text()
    assert met.read_text() == "2"
    log.unlink()
    assert end(fork_run([*flags, "--steps=2", "--seed=1"], 2, log)) == [2, 1]
    (line,) = [line for line in log.read_text().splitlines() if "[W" not in line]
    assert line.startswith("error: ")
    assert "seed was 0, is 1" in line
