"""Names of models that are mistyped, are not made yet, or are the Hub's."""

import json
import socket
from pathlib import Path

import huggingface_hub.constants
import pytest

from alignset.train.__main__ import main
from alignset.train.errors import SettingsError
from alignset.train.evaluate.__main__ import main as evaluate
from alignset.train.model.embed import open_embedder
from alignset.train.model.model_names import check_name
from tests.support.small_hub import small_hub
from tests.support.train_shards import colour_shards


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


@pytest.fixture
def tries(hub, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The connections to the Hub; nothing answers."""
    asked: list[object] = []

    def refuse(address: object, *_: object, **__: object) -> None:
        if address == ("127.0.0.1", 9):  # and not what the Hub's library wants for itself
            asked.append(address)
        raise ConnectionRefusedError("nobody listens")

    hub("http://127.0.0.1:9")
    monkeypatch.setattr(socket, "create_connection", refuse)
    return asked


def test_a_folder_that_is_not_there_is_looked_up_once_and_that_is_said(words: str, tries, capfd):
    assert evaluate(["words", "--model=RUNS/nope", words]) == 2
    asking, error = capfd.readouterr().err.splitlines()
    assert asking == "no folder RUNS/nope here: looking for a model of that name on the Hub"
    assert "'RUNS/nope' (there is no such folder here, and the Hub cannot be reached" in error
    assert len(tries) == 1


def test_so_it_is_with_the_models_of_towers(tries, tmp_path: Path, capfd):
    shards = colour_shards(tmp_path / "shards", each=1)
    flags = ["--shards", str(shards), "--run", str(tmp_path / "run")]
    for flag, name, asked in (
        ("--image_weights", "made/b0", "made/b0"),
        ("--text_weights", "bert", "bert"),
        ("--tokenizer", "made/bert", "made/bert"),
        ("--start_from", "RUNS/a", "RUNS/a"),
    ):
        tries.clear()
        assert main([*flags, flag, name]) == 2
        asking, error = capfd.readouterr().err.splitlines()
        assert asking.startswith(f"no folder {asked} here: looking for a model")
        assert name in error
        assert len(tries) == 1, flag


def test_what_no_published_model_is_called_is_not_asked_for(words: str, tries, capfd):
    for name in ("/tmp/none/there", "RUNS/a/model", "./RUNS"):
        assert evaluate(["words", "--model", name, words]) == 2
        error = capfd.readouterr().err
        assert f"no model at {name!r} (there is no such folder here): name a folder" in error
        assert "or open_clip:NAME@WEIGHTS" in error
        assert error.count("\n") == 1
    assert tries == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("openclip:ViT-B-32@laion2b", "open_clip:ViT-B-32@laion2b"),
        ("open-clip:ViT-B-32", "open_clip:ViT-B-32"),
    ],
)
def test_what_was_meant_for_a_name_of_ours_is_not_asked_for(
    words: str, tries, capfd, name: str, meant: str
):
    assert evaluate(["words", "--model", name, words]) == 2
    (error,) = capfd.readouterr().err.splitlines()
    assert f"there is no model {name!r}: did you mean {meant!r}? There are open_clip:" in error
    assert tries == []


def test_the_hub_has_none_of_that_name(tmp_path: Path, hub, capfd):
    with small_hub("someone/other", tmp_path) as small:
        small.error = "RepoNotFound"
        hub(small.url)
        with pytest.raises(OSError, match="the Hub has no model of that name"):
            check_name("someone/model")
        small.error = "EntryNotFound"  # of a tokenizer without config.json
        check_name("someone/model")
        assert small.requests == ["/someone/model/resolve/main/config.json"] * 2


def test_a_file_is_no_model(tmp_path: Path):
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match="it is a file"):
        check_name(str(tmp_path / "a"))


def test_a_run_that_goes_on_still_has_no_model(tmp_path: Path):
    run = tmp_path / "a"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.json").write_text(json.dumps({"settings": {}, "sets": []}))
    for name in (run, run / "model"):
        with pytest.raises(SettingsError, match=r"a run that has no model/ yet: finish it") as told:
            open_embedder(str(name))
        assert "model-best" not in str(told.value)
    (run / "model-best").mkdir()
    with pytest.raises(SettingsError, match=r"best of its validations, .*/a/model-best$"):
        open_embedder(str(run))


def test_an_export_is_not_a_model_to_score_with(tmp_path: Path):
    (tmp_path / "export.json").write_text('{"model": "RUNS/a"}')
    with pytest.raises(
        SettingsError, match=r"is an export, .*: pass the model that it was made of"
    ):
        open_embedder(str(tmp_path))
