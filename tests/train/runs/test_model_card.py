"""The model card: what a run was trained on, with which settings, how it went; of any manifest."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.support.small_training import SETTINGS
from train.data.find_shards import ShardSet
from train.runs.model_card import write_card

METRICS = [
    {"step": 4, "loss": 3.5, "samples_per_second": 7},
    {"step": 4, "validation/R1": 25.0},
    {"step": 8, "loss": 2.25},
    {"step": 8, "validation/R1": 20.0},
]


def made(tmp_path: Path, manifest: object = None, metrics: list | None = None) -> tuple:
    run, out = tmp_path / "run", tmp_path / "OUT"
    for folder in (run, out / "shards"):
        folder.mkdir(parents=True)
    if manifest is not None:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        (out / "manifest.json").write_text(text)
    if metrics is not None:
        (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    return run, [ShardSet((str(out / "shards" / "00000.tar"), str(out / "shards" / "00001.tar")))]


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
        "| pairs | 1234 |",
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
    assert "decode_threads" not in body  # which is no matter of what was learned
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
