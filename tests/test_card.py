"""The dataset card, as the Hugging Face Hub reads it."""

import fnmatch
from pathlib import Path
from typing import Any

import pytest
from command import funnel, manifest
from conftest import Golden
from huggingface_hub import DatasetCard

from pipeline.card import _size_category, dataset_card


@pytest.fixture
def made(golden: Golden) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return manifest(golden.output), funnel(golden.output)["steps"]


def test_the_golden_cards_front_matter(golden: Golden):
    card = DatasetCard.load(golden.output / "README.md")
    data = card.data.to_dict()
    kept = funnel(golden.output)["pairs"]
    assert data["pretty_name"] == f"{kept} image and alt-text pairs"
    assert data["language"] == ["en"]
    assert data["size_categories"] == ["n<1K"]
    assert "image-to-text" in data["task_categories"]
    (config,) = data["configs"]
    files = [str(p.relative_to(golden.output)) for p in Path(golden.output).rglob("*.*")]
    assert sorted(fnmatch.filter(files, config["data_files"])) == [
        f"shards/{name}.tar" for name in manifest(golden.output)["shards"]
    ]


def test_the_golden_cards_text(golden: Golden):
    text = (golden.output / "README.md").read_text()
    assert "| `min_image_side` | 100 |" in text
    assert "| `language` | en |" in text
    assert "- exam: 1 images, and 1 that could not be decoded" in text
    assert "evaluation_overlap" in text


def test_without_evaluation_images_it_warns(made):
    described, steps = made
    text = dataset_card(described | {"evaluation_images": {}}, steps)
    assert "No evaluation images were given" in text


def test_without_images_and_of_any_language(made):
    described, steps = made
    rules = described["rules"] | {"language": ""}
    card = DatasetCard(dataset_card(described | {"shards": {}, "rules": rules}, steps))
    assert "language" not in card.data.to_dict()
    assert "configs" not in card.data.to_dict()
    assert "pairs/*.parquet" in card.text
    assert "| `language` | (all) |" in card.text


@pytest.mark.parametrize("language", ["no", "en", "zh-cn"])
def test_every_language_is_read_as_text(made, language: str):
    """A bare `no` is false in YAML."""
    described, steps = made
    rules = described["rules"] | {"language": language}
    card = DatasetCard(dataset_card(described | {"rules": rules}, steps))
    assert card.data.to_dict()["language"] == [language]


@pytest.mark.parametrize(
    ("pairs", "category"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (9_999, "1K<n<10K"),
        (10_000, "10K<n<100K"),
        (123_456_789, "100M<n<1B"),
        (1_800_000_000, "1B<n<10B"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_size_categories_of_the_hub(pairs: int, category: str):
    assert _size_category(pairs) == category
