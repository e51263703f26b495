"""The dataset card, as the Hugging Face Hub reads it."""

import fnmatch
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from pipeline.report.card import dataset_card, size_category
from pipeline.runs.documents import Funnel, Manifest, Step
from tests.support.command import funnel, manifest
from tests.support.golden_run import Golden
from transforms.corpus.hash_sets import HashFile
from transforms.corpus.vocabulary import CountClass, VocabularyFile, VocabularySummary
from transforms.storage.documents import read_document


@pytest.fixture
def made(golden: Golden) -> tuple[Manifest, list[Step]]:
    written = read_document(f"{golden.output}/funnel.json", Funnel)
    return read_document(f"{golden.output}/manifest.json", Manifest), written.steps


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


def test_the_golden_cards_vocabulary(golden: Golden):
    text = (golden.output / "README.md").read_text()
    vocabulary = funnel(golden.output)["vocabulary"]
    assert (
        f"the {vocabulary['vocabulary']} most frequent of {vocabulary['ngrams']} unigrams" in text
    )
    assert (
        f"{vocabulary['share_of_occurrences']:.2%} of all that occur. Of those that occur" in text
    )
    once = vocabulary["by_count"][0]["ngrams"]
    assert f"\n| 1 time | {once} | {once} |\n| 2 times | " in text


def test_a_vocabulary_that_cuts_nothing(made):
    described, steps = made
    rows = [(1, 1, 12, 12), (2, 2, 0, 0), (3, 10, 0, 0), (11, 100, 0, 0), (101, 1000, 1, 999)]
    names = ("min_count", "max_count", "ngrams", "occurrences")
    by_count = [CountClass(**dict(zip(names, row, strict=True))) for row in rows]
    vocabulary = replace(described.vocabulary, cut_off_count=0, by_count=by_count)
    text = dataset_card(replace(described, vocabulary=vocabulary), steps)
    assert " of all that occur. None is left out.\n\n| they occur |" in text
    assert "| 3 to 10 times | 0 | 0 |\n" in text
    assert "| 101 to 1,000 times | 1 | 999 |\n" in text


def test_a_given_vocabulary(made):
    described, steps = made
    file = VocabularyFile(bytes=8, path="old.u64", sha256="ab12", hashes="")
    card = dataset_card(
        replace(
            described,
            vocabulary=VocabularySummary(vocabulary=4321, file=file),
            given_vocabulary=HashFile("old.u64", 8, "ab12"),
        ),
        steps,
    )
    assert "an earlier run: 4,321 unigrams and bigrams" in card
    assert "ab12" in card
    assert "old.u64" not in card  # a path of the machine
    assert "they occur" not in card


def test_without_evaluation_images_it_warns(made):
    described, steps = made
    text = dataset_card(replace(described, evaluation_images={}), steps)
    assert "No evaluation images were given" in text


def test_without_images_and_of_any_language(made):
    described, steps = made
    rules, job = described.rules | {"language": ""}, described.job | {"text_only": True}
    card = DatasetCard(dataset_card(replace(described, shards={}, rules=rules, job=job), steps))
    assert "language" not in card.data.to_dict()
    assert "configs" not in card.data.to_dict()
    assert "pairs/*.parquet" in card.text
    assert "| `language` | (all) |" in card.text


@pytest.mark.parametrize("language", ["no", "en", "zh-cn"])
def test_every_language_is_read_as_text(made, language: str):
    """A bare `no` is false in YAML."""
    described, steps = made
    rules = described.rules | {"language": language}
    card = DatasetCard(dataset_card(replace(described, rules=rules), steps))
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
    assert size_category(pairs) == category
