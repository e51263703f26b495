"""The model card: what a run was trained on, with which settings, how it went; of any manifest."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from alignset.train.data.find_shards import ShardSet
from alignset.train.runs.model_card import write_card
from alignset.train.settings import Settings
from tests.support.small_training import SETTINGS

METRICS = [
    {"step": 4, "loss": 3.5, "samples_per_second": 7},
    {"step": 4, "validation/R1": 25.0},
    {"step": 8, "loss": 2.25},
    {"step": 8, "validation/R1": 20.0, "validation/n": 83},
]


def made_set(out: Path, manifest: object = None) -> tuple[str, ...]:
    """Two shards, and a manifest that has the sums of them where it is a dictionary."""
    (out / "shards").mkdir(parents=True)
    sums = {}
    for name in ("00000", "00001"):
        data = f"{out.name}/{name}".encode()
        (out / "shards" / f"{name}.tar").write_bytes(data)
        sums[name] = {"pairs": 3, "sha256": hashlib.sha256(data).hexdigest()}
    if isinstance(manifest, dict):
        manifest = json.dumps({"shards": sums} | manifest)
    if manifest is not None:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        (out / "manifest.json").write_text(text)
    return tuple(str(out / "shards" / f"{name}.tar") for name in sums)


def card_of(run: Path, *sets: ShardSet, settings: Settings = SETTINGS) -> str:
    run.mkdir(exist_ok=True)
    write_card(run, run, settings, list(sets))
    return (run / "README.md").read_text()


def test_a_card_tells_data_settings_and_course(tmp_path: Path):
    manifest = {
        "pairs": 3851,
        "input": [{}, {}],
        "rules": {"min_image_side": 200, "language": "en"},
        "evaluation_images": {"imagenet": {}},
        "holdout": {"00000": {"pairs": 80, "sha256": ""}, "00001": {"pairs": 3, "sha256": ""}},
        "fetched": {"first": "2026-11-25", "last": "2026-11-26"},
    }
    shards = made_set(tmp_path / "OUT", manifest)
    for number, earlier in enumerate(('{"evaluation_images": {"exam": {}}, "pairs": 7}', "[", "3")):
        folder = tmp_path / f"OUT/history/{number}"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(earlier)
    run = tmp_path / "run"
    run.mkdir()
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    card = card_of(run, ShardSet(shards), settings=replace(SETTINGS, seed=77, optimizer="adamw"))
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "transformers"
    for told in (
        "2 shards, the first of which is `00000.tar`",
        hashlib.sha256((tmp_path / "OUT" / "manifest.json").read_bytes()).hexdigest(),
        "| pairs | 3,851, of which 83 are held out and 3,768 are to train on |",
        "| images were fetched | from 2026-11-25 to 2026-11-26 |",
        "| input files | 2 |",
        "| rule `min_image_side` | 200 |",
        "kept out | imagenet |",
        "The sets that it was made of had, before that:\n\n| | |\n|---|---|\n| pairs | 7 |\n",
        "| evaluation images that were kept out | exam |",
        "| last loss | 2.25, at step 8 |",
        "| 20.0 %, among 83 images (by chance 1.2 %) |",
        "| the best, which `model-best` is of | 25.0 %, at step 4 |",
        "| `seed` | 77 |",
        "| `beta2` | 0.98 |",
        'from_pretrained("model")',
        "![The loss and what validations gave, by step](curve.png)",
    ):
        assert told in body
    assert "decode_threads" not in body  # which is not a matter of what was learned
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "manifest",
    [
        None,
        "{",
        "[1]",
        "[" * 100_000,
        {"rules": 3, "input": "x", "evaluation_images": [1]},
        {"rules": {"<script>`|": "</td>|\n# a heading\n" + "x" * 10_000, "\ud800": "\ud800"}},
    ],
    ids=["none", "cut", "a list", "deep", "other types", "markup"],
)
def test_a_card_of_any_manifest(tmp_path: Path, manifest):
    card = card_of(tmp_path / "run", ShardSet(made_set(tmp_path / "OUT", manifest)))
    assert "Nothing was measured on the way." in card
    assert not (tmp_path / "run" / "curve.png").exists()
    assert "<script>" not in card
    assert "\n# a heading" not in card
    assert max(map(len, card.splitlines())) < 400
    assert ("No manifest" in card) == (not isinstance(manifest, dict))


def test_no_secret_of_a_shards_name_is_told(tmp_path: Path):
    for shard, text in (
        ("pipe:curl -H 'Authorization: secret' https://a/0.tar -o -", "the output of a command"),
        ("https://host/b/00007.tar?signature=secret/x", "`00007.tar`"),
        ("gs://bucket/b/00007.tar", "`00007.tar`"),
    ):
        sets = ShardSet((shard,), 3.0), ShardSet(("/a/1.tar",))
        card = card_of(tmp_path / "run", *sets, settings=replace(SETTINGS, start_from="a|b"))
        assert f"1 shard, the first of which is {text}, weight 3.\n" in card
        assert "secret" not in card
        assert "# ALIGN, from a&#124;b" in card


def test_each_folder_has_its_own_manifest_and_no_other(tmp_path: Path, monkeypatch):
    run, of_a = tmp_path / "run", made_set(tmp_path / "A", {"pairs": 111})
    of_b, of_c = made_set(tmp_path / "B", {"pairs": 222}), made_set(tmp_path / "C")
    card = card_of(run, ShardSet((*of_a, *of_b, *of_c)))
    assert [card.count(told) for told in ("| pairs | 111 |", "| pairs | 222 |")] == [1, 1]
    assert card.count("2 shards, the first of which is `00000.tar`.") == 3
    assert card.count("No manifest") == 1
    monkeypatch.chdir(tmp_path / "A" / "shards")
    Path("manifest.json").write_text('{"pairs": 222}')
    commands = ("pipe:cat 00000.tar", "pipe:cat shards/00000.tar")
    for shards, counts in ((("00000.tar",), [1, 0]), (commands, [0, 0]), (of_a, [1, 0])):
        card = card_of(run, ShardSet(shards))  # a manifest is in the folder above its shards
        assert [card.count(f"| pairs | {n} |") for n in (111, 222)] == counts
    Path(of_a[0]).write_bytes(b"of another set")
    assert "No manifest" in card_of(run, ShardSet(of_a))
