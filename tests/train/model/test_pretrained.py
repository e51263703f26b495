"""Models to go on with: a folder, a hub's by name, and what is refused."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignset.train.__main__ import main
from alignset.train.errors import SettingsError
from alignset.train.evaluate.__main__ import main as evaluate
from alignset.train.model.dual_encoder import export_model
from alignset.train.model.pretrained import load_pretrained
from tests.support.root import ROOT
from tests.support.small_hub import small_hub
from tests.support.small_training import SETTINGS, small_model, small_tokenizer
from tests.support.train_shards import colour_shards

SMALL = (
    *("--crop_px=32", "--resize_px=40", "--batch_size=8", "--steps=2", "--warmup_steps=0"),
    *("--learning_rate=1e-5", "--trackers=", "--log_every=1", "--micro_batch_size=8"),
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    return colour_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = small_model()
    with torch.no_grad():
        model.log_temperature.fill_(-3.0)
    export_model(model, small_tokenizer(), SETTINGS, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def started_from_saved(saved: Path, shards: Path, tmp_path: Path) -> list[str]:
    """The flags of a run that goes on with `saved`."""
    run = tmp_path / "run"
    return ["--shards", str(shards), "--run", str(run), "--start_from", str(saved)]


def commands(folder: Path, hub: str, *lines: list) -> str:
    """Runs them in one process of their own, whose hub is at `hub`; gives what they printed."""
    words = [[str(word) for word in line] for line in lines]
    script = (
        "import json, sys; from alignset.train.__main__ import main\n"
        "from alignset.train.evaluate import __main__ as evaluate\n"
        "for line in json.loads(sys.argv[1]):\n"
        "    command = evaluate.main if line[0] == 'retrieval' else main\n"
        "    assert command(line) == 0, line"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(words)],
        cwd=ROOT,
        env={name: v for name, v in os.environ.items() if name != "HF_HUB_OFFLINE"}
        | {"HF_ENDPOINT": hub, "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "it/s" not in done.stderr  # a bar, and this is not a terminal
    return done.stdout


def test_a_folder_is_gone_on_with_and_no_hub_is_asked(
    saved, shards, tmp_path, capfd, started_from_saved, monkeypatch
):
    asked = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    run = tmp_path / "run"
    assert main([*started_from_saved, *SMALL]) == 0
    assert evaluate(["retrieval", "--model", str(run / "model"), "--data", str(shards)]) == 0
    assert json.loads(capfd.readouterr().out)["n"] == 24
    assert asked == []
    before, after = (load_file(f / "model.safetensors") for f in (saved, run / "model"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "text_projection.weight" in changed
    assert "vision_model.embeddings.convolution.weight" in changed
    steps = max((before[n] - after[n]).abs().max() for n in changed if n.endswith("weight"))
    assert steps < 1e-4  # two steps of at most about 1e-5 each: these are not new weights
    assert after["temperature"].item() == pytest.approx(before["temperature"].item(), rel=1e-4)
    tokenizers = [json.loads((f / "tokenizer.json").read_text()) for f in (saved, run / "model")]
    assert tokenizers[0]["model"]["vocab"] == tokenizers[1]["model"]["vocab"]


@pytest.mark.slow
def test_a_published_model_comes_by_its_name(saved, shards, tmp_path):
    with small_hub("someone/align-tiny", saved) as hub:
        name = ["--preset", "flickr30k", "--start_from", "someone/align-tiny"]
        trained = ["--shards", shards, "--run", tmp_path / "run", *name, *SMALL]
        evaluated = ["retrieval", "--model", "someone/align-tiny", "--data", shards]
        assert json.loads(commands(tmp_path, hub.url, trained, evaluated))["n"] == 24
        assert "/someone/align-tiny/resolve/main/model.safetensors" in hub.requests
    assert json.loads((tmp_path / "run" / "config.json").read_text())["settings"]["start_from"]
    before, after = (load_file(f / "model.safetensors") for f in (saved, tmp_path / "run/model"))
    assert torch.allclose(
        before["text_projection.weight"], after["text_projection.weight"], atol=1e-4
    )


def test_where_it_is_not_there_one_line_says_so(shards, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as the variable does
    for name in ("someone/align-tiny", "RUNS/a/model", str(tmp_path / "nothing")):
        arguments = ["--shards", str(shards), "--run", str(tmp_path / "run"), "--start_from", name]
        assert main([*arguments, *SMALL]) == 2
        error = capsys.readouterr().err
        assert f"no AlignModel at {name!r}" in error
        assert error.count("\n") == 1


def test_a_run_is_not_gone_on_with_from_other_weights(saved, started_from_saved, capsys):
    assert main([*started_from_saved, *SMALL]) == 0
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    capsys.readouterr()
    assert main([*started_from_saved, *SMALL]) == 2
    assert "started from another model" in capsys.readouterr().err


def test_flags_that_the_model_brings_are_refused(started_from_saved, capsys):
    for name, value in (("text_tower", "mini"), ("text_dropout", "0.2")):
        assert main([*started_from_saved, f"--{name}={value}"]) == 2
        assert f"--{name} is what --start_from brings: leave it out" in capsys.readouterr().err


def test_other_models_and_parts_of_one_are_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    weights = load_file(saved / "model.safetensors")
    partial = {k: v for k, v in weights.items() if k != "text_projection.weight"}
    save_file(partial, saved / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SettingsError, match=r"lacks 1 of its weights.*text_projection.weight"):
        load_pretrained(str(saved))
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    load_pretrained(str(saved))
    (saved / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with pytest.raises(SettingsError, match=r"is a model of type clip.* pass the same shards"):
        load_pretrained(str(saved))


def test_pixels_from_elsewhere_are_refused(saved):
    for name in ("preprocessor_config.json", "processor_config.json"):
        config = json.loads((saved / name).read_text())
        config.get("image_processor", config)["image_mean"] = [0.0] * 3
        (saved / name).write_text(json.dumps(config))
    with pytest.raises(SettingsError, match=r"pixels from elsewhere than \[-1, 1\]"):
        load_pretrained(str(saved))
