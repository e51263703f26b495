"""The model card: what a run was trained on, with which settings, how it went; of any manifest."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from alignset.train.data.find_shards import ShardSet
from alignset.train.runs.model_card import write_card
from tests.support.small_training import SETTINGS

METRICS = [
    {"step": 4, "loss": 3.5, "samples_per_second": 7},
    {"step": 4, "validation/R1": 25.0},
    {"step": 8, "loss": 2.25},
    {"step": 8, "validation/R1": 20.0},
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


def made(tmp_path: Path, manifest: object = None, metrics: list | None = None) -> tuple:
    run = tmp_path / "run"
    run.mkdir()
    if metrics is not None:
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return run, [ShardSet(made_set(tmp_path / "OUT", manifest))]


def test_a_card_tells_data_settings_and_course(tmp_path: Path):
    manifest = {
        "pairs": 1234,
        "input": [{}, {}],
        "rules": {"min_image_side": 200, "language": "en"},
        "evaluation_images": {"imagenet": {}},
    }
    run, sets = made(tmp_path, manifest, METRICS)
    write_card(run, run, replace(SETTINGS, seed=77), sets)
    card = (run / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["library_name"] == "transformers"
    digest = hashlib.sha256((tmp_path / "OUT" / "manifest.json").read_bytes()).hexdigest()
    for told in (
        "2 shards, the first of which is `00000.tar`",
        digest,
        "| pairs | 1,234 |",
        "| input files | 2 |",
        "| rule `min_image_side` | 200 |",
        "kept out | imagenet |",
        "| last loss | 2.25, at step 8 |",
        "| held-out R@1 at the end, mean of both directions | 20.0 % |",
        "| the best, which `model-best` is of | 25.0 %, at step 4 |",
        "| `seed` | 77 |",
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
    run, sets = made(tmp_path, manifest)
    write_card(run, run, SETTINGS, sets)
    card = (run / "README.md").read_text()
    assert "Nothing was measured on the way." in card
    assert not (run / "curve.png").exists()
    assert "<script>" not in card
    assert "\n# a heading" not in card
    assert max(map(len, card.splitlines())) < 400
    assert ("No manifest" in card) == (not isinstance(manifest, dict))


def test_sets_with_weights_and_shards_elsewhere(tmp_path: Path):
    run, sets = made(tmp_path)
    remote = ShardSet(("s3://bucket/a/00000.tar",), 3.0)
    write_card(run, run, replace(SETTINGS, start_from="a|b"), [*sets, remote])
    card = (run / "README.md").read_text()
    assert "1 shard, the first of which is `00000.tar`, weight 3." in card
    assert "# ALIGN, from a&#124;b" in card


def test_no_secret_of_a_shards_name_is_told(tmp_path: Path):
    run, _ = made(tmp_path)
    for shard, text in (
        ("pipe:curl -H 'Authorization: secret' https://a/0.tar -o -", "the output of a command"),
        ("https://host/b/00007.tar?signature=secret/x", "`00007.tar`"),
        ("gs://bucket/b/00007.tar", "`00007.tar`"),
    ):
        write_card(run, run, SETTINGS, [ShardSet((shard,))])
        card = (run / "README.md").read_text()
        assert f"1 shard, the first of which is {text}.\n" in card
        assert "secret" not in card


def test_each_folder_of_a_set_has_its_own_manifest(tmp_path: Path):
    run, (of_a,) = made(tmp_path, {"pairs": 111})
    of_b = made_set(tmp_path / "B", {"pairs": 222})
    of_c = made_set(tmp_path / "C")
    write_card(run, run, SETTINGS, [ShardSet((*of_a.shards, *of_b, *of_c))])
    card = (run / "README.md").read_text()
    assert [card.count(told) for told in ("| pairs | 111 |", "| pairs | 222 |")] == [1, 1]
    assert card.count("2 shards, the first of which is `00000.tar`.") == 3
    assert card.count("No manifest") == 1


def test_a_manifest_of_other_shards_is_not_told(tmp_path: Path, monkeypatch):
    run, (of_a,) = made(tmp_path, {"pairs": 111})
    monkeypatch.chdir(tmp_path / "OUT" / "shards")
    (tmp_path / "OUT" / "shards" / "manifest.json").write_text('{"pairs": 222}')
    commands = ("pipe:cat 00000.tar", "pipe:cat shards/00000.tar")
    for shards, pairs in (
        (("00000.tar",), [1, 0]),  # as its manifest is in the folder above
        (commands, [0, 0]),
        (of_a.shards, [1, 0]),
    ):
        write_card(run, run, SETTINGS, [ShardSet(shards)])
        card = (run / "README.md").read_text()
        assert [card.count(f"| pairs | {n} |") for n in (111, 222)] == pairs
    Path(of_a.shards[0]).write_bytes(b"of another set")
    write_card(run, run, SETTINGS, [of_a])
    assert "No manifest" in (run / "README.md").read_text()


def test_what_is_held_out_when_it_was_fetched_and_what_chance_gives(tmp_path: Path):
    manifest = {
        "pairs": 3851,
        "holdout": {"00000": {"pairs": 80, "sha256": ""}, "00001": {"pairs": 3, "sha256": ""}},
        "fetched": {"first": "2026-11-25", "last": "2026-11-26"},
    }
    run, sets = made(tmp_path, manifest, [*METRICS, {"step": 8, "validation/n": 83}])
    write_card(run, run, replace(SETTINGS, optimizer="adamw", beta2=0.0), sets)
    card = (run / "README.md").read_text()
    assert "| pairs | 3,851, of which 83 are held out and 3,768 are to train on |" in card
    assert "| images were fetched | from 2026-11-25 to 2026-11-26 |" in card
    assert "| 20.0 %, among 83 images (by chance 1.2 %) |" in card
    assert "| `beta2` | 0.98 |" in card


@pytest.mark.parametrize("earlier", ['{"evaluation_images": {"exam": {}}, "pairs": 7}', "[", "3"])
def test_what_the_sets_that_it_was_made_of_had_kept_out(tmp_path: Path, earlier: str):
    run, sets = made(tmp_path, {"pairs": 6})
    folder = tmp_path / "OUT/history/00"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(earlier)
    write_card(run, run, SETTINGS, sets)
    card = (run / "README.md").read_text()
    told = "The sets that it was made of had, before that:\n\n| | |\n|---|---|\n| pairs | 7 |\n"
    wanted = earlier.startswith("{")
    assert (told in card) == wanted
    assert ("| evaluation images that were kept out | exam |" in card) == wanted
