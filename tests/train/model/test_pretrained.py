"""Models to go on with: a folder, a hub's by name, and what is refused."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from alignset.train.__main__ import main
from alignset.train.errors import SettingsError
from alignset.train.evaluate.__main__ import main as evaluate
from alignset.train.model.dual_encoder import export_model
from alignset.train.model.embed import open_embedder
from alignset.train.model.pretrained import check_name, load_pretrained
from tests.support.root import ROOT
from tests.support.small_hub import small_hub
from tests.support.small_training import SETTINGS, small_model, small_tokenizer

SMALL = (
    *("--crop_px=32", "--resize_px=40", "--batch_size=8", "--steps=2", "--warmup_steps=0"),
    *("--learning_rate=1e-5", "--trackers=", "--log_every=1", "--micro_batch_size=8"),
)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    model = small_model()
    with torch.no_grad():
        model.log_temperature.fill_(-3.0)
    export_model(model, small_tokenizer(), SETTINGS, tmp_path / "saved")
    return tmp_path / "saved"


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


def test_a_folder_is_gone_on_with_and_no_hub_is_asked(saved, shards, tmp_path, capfd, monkeypatch):
    asked = []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    run = tmp_path / "run"
    started = ["--shards", str(shards), "--run", str(run), "--start_from", str(saved), *SMALL]
    assert main(started) == 0
    for of_run in (run, run / "model"):  # one and the same run, which the second resumes
        again = [*started[: -len(SMALL)], *SMALL, f"--run={tmp_path / 'again'}", "--start_from"]
        assert main([*again, str(of_run)]) == 0
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
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    for flags, text in (
        ([], "started from another model"),
        (["--text_tower=mini"], "--text_tower is what --start_from brings: leave it out"),
    ):
        assert main([*started, *flags]) == 2
        assert text in capfd.readouterr().err


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

    (saved / "config.json").write_text(json.dumps(config))
    for name in ("preprocessor_config.json", "processor_config.json"):
        config = json.loads((saved / name).read_text())
        config.get("image_processor", config)["image_mean"] = [0.0] * 3
        (saved / name).write_text(json.dumps(config))
    with pytest.raises(SettingsError, match=r"pixels from elsewhere than \[-1, 1\]"):
        load_pretrained(str(saved))


@pytest.fixture
def words(tmp_path: Path) -> str:
    (tmp_path / "words.csv").write_text("word1,word2,score\na,b,1\nb,c,2\n")
    return f"--data={tmp_path / 'words.csv'}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Has names looked up at an address, in place of the public Hub."""

    def at(url: str) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))

    return at


def test_a_name_without_a_folder_is_looked_up_once_and_that_is_said(
    shards: Path, words: str, hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd
):
    asked: list[object] = []

    def refuse(address: object, *_: object, **__: object) -> None:
        if address == ("127.0.0.1", 9):  # and not what the Hub's library wants for itself
            asked.append(address)
        raise ConnectionRefusedError("nobody listens")

    hub("http://127.0.0.1:9")
    monkeypatch.setattr(socket, "create_connection", refuse)
    train = [f"--shards={shards}", f"--run={tmp_path / 'run'}"]
    for command, flags, name in (
        (evaluate, ["words", words, "--model=RUNS/nope"], "RUNS/nope"),
        (main, [*train, "--image_weights=made/b0"], "made/b0"),
        (main, [*train, "--text_weights=bert"], "bert"),
        (main, [*train, "--tokenizer=made/bert"], "made/bert"),
        (main, [*train, "--start_from=RUNS/a"], "RUNS/a"),
    ):
        asked.clear()
        assert command(flags) == 2
        asking, error = capfd.readouterr().err.splitlines()
        assert asking == f"no folder {name} here: looking for a model of that name on the Hub"
        assert name in error
        assert "(there is no such folder here, and the Hub cannot be reached" in error
        assert len(asked) == 1, name
    asked.clear()
    for name in ("/tmp/none/there", "RUNS/a/model", "./RUNS", "openclip:ViT-B-32@laion2b"):
        assert evaluate(["words", "--model", name, words]) == 2
        (error,) = capfd.readouterr().err.splitlines()
        assert f"no model at {name!r} (there is no such folder here): name a folder" in error
        assert "or open_clip:NAME@WEIGHTS" in error
    assert asked == []


def test_names_that_have_no_model(tmp_path: Path, hub, monkeypatch: pytest.MonkeyPatch):
    with small_hub("someone/other", tmp_path) as small:
        hub(small.url)
        small.error = "RepoNotFound"
        with pytest.raises(OSError, match="the Hub has no model of that name"):
            check_name("someone/model")
        small.error = "EntryNotFound"  # of a tokenizer without config.json
        check_name("someone/model")
        assert small.requests == ["/someone/model/resolve/main/config.json"] * 2
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="HF_HUB_OFFLINE forbids to ask the Hub"):
        check_name("someone/model")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="it is a file"):
        check_name(str(tmp_path / "file"))
    (tmp_path / "export.json").write_text('{"model": "RUNS/a"}')
    with pytest.raises(SettingsError, match=r"is an export, .*: pass the model that it was"):
        open_embedder(str(tmp_path))
    run = tmp_path / "a"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"settings": {}, "sets": []}))
    for name in (run, run / "model"):
        with pytest.raises(SettingsError, match=r"a run that has no model/ yet: finish it") as told:
            open_embedder(str(name))
        assert "model-best" not in str(told.value)
    (run / "model-best").mkdir()
    with pytest.raises(SettingsError, match=r"best of its validations, .*/a/model-best$"):
        open_embedder(str(run))
