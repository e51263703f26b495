"""The dataset card, as the Hugging Face Hub reads it."""

import fnmatch
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from alignset.pipeline.datasets.sizes_and_days import Contents
from alignset.pipeline.documents.card import dataset_card, size_category, tar_pattern
from alignset.pipeline.inputs.splits import InputFile
from alignset.pipeline.runs.documents import Days, Funnel, Manifest, OptOuts, Retry, ShardEntry
from alignset.transforms.corpus.corpus_documents import (
    CountClass,
    HashFile,
    VocabularyFile,
    VocabularySummary,
)
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.storage.documents import read_document
from tests.support.command import DOCUMENTS, funnel, manifest
from tests.support.golden_run import Golden

Made = tuple[Manifest, Funnel, Contents]


@pytest.fixture
def made(golden: Golden) -> Made:
    funnel = read_document(f"{golden.output}/funnel.json", Funnel)
    return read_document(f"{golden.output}/manifest.json", Manifest), funnel, Contents(), {}


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
    assert "- exam: 1 image, and 1 that could not be decoded" in text
    assert "distance (0 to 2) is\nbelow 0.25:" in text
    assert "In tests with" in text
    assert "evaluation_overlap" in text


@pytest.mark.parametrize("measure", ["phash", "embedding"])
def test_a_measure_of_an_earlier_version_is_named(made, measure: str):
    described, *rest = made
    rules = described.rules | {"min_evaluation_distance": 6.0}
    earlier = replace(described, rules=rules, overlap={"measure": measure})
    card = dataset_card(earlier, *rest)
    assert f"\nby `{measure}`, a measure of an earlier version, is below 6.0:\n\n- exam: " in card
    for of_this_version in ("(0 to 2)", "In tests with", "--min_evaluation_distance"):
        assert of_this_version not in card
    after = dataset_card(described, *rest[:-1], {"history/00": earlier})
    assert f"- `history/00`, at a distance below `6.0` by `{measure}`: `exam` (1 image" in after


def test_a_vocabulary_that_cuts_nothing(made):
    described, *rest = made
    rows = [(1, 1, 12, 12), (2, 2, 0, 0), (3, 10, 0, 0), (11, 100, 0, 0), (101, 1000, 1, 999)]
    names = ("min_count", "max_count", "ngrams", "occurrences")
    by_count = [CountClass(**dict(zip(names, row, strict=True))) for row in rows]
    vocabulary = replace(described.vocabulary, cut_off_count=0, by_count=by_count)
    text = dataset_card(replace(described, vocabulary=vocabulary), *rest)
    assert " of all that occur. None is left out.\n\n| they occur |" in text
    assert "| 3 to 10 times | 0 | 0 |\n" in text
    assert "| 101 to 1,000 times | 1 | 999 |\n" in text


def test_a_given_vocabulary(made):
    described, *rest = made
    file = VocabularyFile(bytes=8, path="/home/me/old.u64", sha256="ab12", hashes="")
    card = dataset_card(
        replace(
            described,
            vocabulary=VocabularySummary(vocabulary=4321, file=file),
            given_vocabulary=HashFile("/home/me/old.u64", 8, "ab12"),
        ),
        *rest,
    )
    assert "an earlier run: 4,321 unigrams and bigrams" in card
    assert "ab12" in card
    assert "/home/me" not in card
    assert "they occur" not in card


def test_without_images_and_of_any_language(made):
    described, *rest = made
    job, rules = described.job | {"text_only": True}, described.rules | {"language": ""}
    card = DatasetCard(dataset_card(replace(described, job=job, shards={}, rules=rules), *rest))
    assert "language" not in card.data.to_dict()
    assert [config["data_files"] for config in card.data.to_dict()["configs"]] == [
        "pairs/*.parquet"
    ]
    assert "| `language` | all |" in card.text
    assert "- **Language**: there was no rule" in card.text
    assert "**Unsafe images (NSFW)" not in card.text  # there are none


def test_a_set_of_nothing_has_nothing_to_load(made):
    described, *rest = made
    shards = dict.fromkeys(described.shards, ShardEntry(0, ""))
    card = DatasetCard(dataset_card(replace(described, pairs=0, shards=shards), *rest))
    assert {"configs", "dataset_info"}.isdisjoint(card.data.to_dict())
    assert "load_dataset" not in card.text


@pytest.mark.parametrize(
    ("first", "again", "contact"),
    [("a@a.example", "", "a@a.example"), ("a", "b", "b"), ("", "`|<b>", "`` `|<b> ``")],
)
def test_the_contact_of_the_last_command_that_gave_one(made, first: str, again: str, contact: str):
    described, *rest = made
    retry = Retry(1, 1, (3, 3), described.fetch | {"contact": again})
    fetch = described.fetch | {"contact": first}
    card = dataset_card(replace(described, fetch=fetch, retries=[retry]), *rest)
    assert f"removed, write to {contact if contact[0] == '`' else f'`{contact}`'} and" in card


def test_the_sources_are_names_and_no_paths(made):
    described, *rest = made
    files = [InputFile(f"/home/me/crawl/{n}.warc.gz", 100, "warc") for n in range(7)]
    files.append(InputFile("s3://bucket/a`b\n# c.csv", 5, "csv"))
    card = dataset_card(replace(described, input=files), *rest)
    assert (
        "- 1 file of format csv, 5 bytes: ``a`b?# c.csv``\n- 7 files of format warc, 700 bytes: `0"
        in card
    )
    assert "`4.warc.gz`, and 2 more, which" in card
    assert "/home/me" not in card


def test_shards_and_held_out_shards_of_one_number_are_told_apart(made):
    paths = ("/home/me/set/shards/00000.tar", "/home/me/set/holdout/00000.tar", "/home/me/0.tar")
    files = [InputFile(path, 1, "webdataset") for path in paths]
    card = dataset_card(replace(made[0], input=files), *made[1:])
    assert "bytes: `0.tar`, `holdout/00000.tar`, `shards/00000.tar`\n" in card
    assert "/home/me" not in card


def test_a_bar_in_words_of_a_rule_does_not_end_its_cell(made):
    described = made[0]
    rules = described.rules | {"min_column=a|b": 0.5, "max_words": 1_000_000_000}
    card = dataset_card(replace(described, rules=rules), *made[1:])
    assert "| `min_column=a\\|b` | 0.5 | Column a\\|b, at least 0.5 |" in card
    assert "| `max_words` | off |  |" in card


def test_the_days_of_the_crawl_and_of_the_fetch(made):
    described, funnel, *rest = made
    assert "The images were fetched on 20" in dataset_card(*made)
    pages = PageCounts(first_day="2024-05-18", last_day="2024-05-30")
    described = replace(described, fetched=Days("2026-11-25", "2026-11-26"))
    card = dataset_card(described, replace(funnel, pages=pages), *rest)
    assert "their pages were crawled from 2024-05-18 to 2024-05-30.\n" in card
    assert "The images were fetched from 2026-11-25 to 2026-11-26 (UTC" in card
    dateless = dataset_card(described, replace(funnel, pages=PageCounts()), *rest)
    assert "crawled" not in dateless


@pytest.mark.parametrize(
    ("numbers", "pattern"),
    [
        ([0], "shards/{00000..00000}.tar"),
        ([0, 1, 2], "shards/{00000..00002}.tar"),
        (
            [1, 2, 5, 7],
            "shards/{00001..00002}.tar::shards/{00005..00005}.tar::shards/{00007..00007}.tar",
        ),
    ],
)
def test_the_tars_that_open_clip_is_given(numbers: list[int], pattern: str):
    from webdataset.shardlists import expand_urls

    assert tar_pattern(numbers) == pattern
    assert expand_urls(pattern) == [f"shards/{number:05d}.tar" for number in numbers]


@pytest.mark.slow
def test_the_lines_that_the_card_prints_work_in_the_folder(plain: Golden, tmp_path: Path):
    """Each by itself, and they all see each pair."""
    text = (plain.output / "README.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(blocks) == 4
    counts = "len(pairs), len(frame), len(table), len([*described.records('train')])"
    by_the_card_alone = "datasets.load_dataset(os.getcwd())"
    script = "\n".join([*blocks, f"print({counts}, pairs.features)", f"print({by_the_card_alone})"])
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=plain.output,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    count = funnel(plain.output)["pairs"]
    assert f"\n{count} {count} {count} {count} {{'jpg': Image(" in done.stdout
    assert re.search(
        rf"DatasetDict\({{\s+train: Dataset\({{\s+features: .*\s+num_rows: {count}\n", done.stdout
    )
    assert "'page_url': Value('string')" in done.stdout  # though each is null here
    beside = {name for name in DOCUMENTS if "/" not in name}
    assert {*os.listdir(plain.output)} == beside | {
        *("_generated", "rejected", "report", "responses", "shards")
    }


def test_the_card_has_what_its_makers_say_of_it(made):
    described, *rest = made
    about = {"title": 'Birds: "all" of them', "description": "Of gardens.", "license": "cc0-1.0"}
    text = dataset_card(replace(described, about=about), *rest)
    card = DatasetCard(text)
    assert (card.data.pretty_name, card.data.license) == (about["title"], "cc0-1.0")
    assert f"# {about['title']}\n\nOf gardens.\n\nMade by" in text
    assert "to be filled by whoever" not in text.partition("**Contact")[0]
    assert DatasetCard(dataset_card(*made)).data.license == "unknown"


def test_opt_outs_are_counted_and_what_was_heeded_is_told(made):
    described, funnel, *rest = made
    card = dataset_card(*made)
    assert "No pair was left out because of an opt-out." in card
    assert "the hosts' `robots.txt` was honoured, and an `X-Robots-Tag` with one of `noai," in card
    assert "Also honoured: TDM reservations, AI preferences" in card
    unheeded = dict.fromkeys(("robots_txt", "tdm_reservation", "xmp_data_mining", "c2pa"), False)
    unheeded |= {"content_usage": "", "disallowed_header_directives": ""}
    opt_outs = OptOuts("reject", {"x_robots_tag": 1200, "robots_txt": 7})
    card = dataset_card(
        replace(described, fetch=described.fetch | unheeded),
        replace(funnel, opted_out=opt_outs),
        *rest,
    )
    assert "`robots.txt` was not honoured, and an `X-Robots-Tag` was not honoured.\n" in card
    assert "| why | pairs |\n|---|---|\n| `x_robots_tag` | 1,200 |\n| `robots_txt` | 7 |" in card


@pytest.mark.parametrize("language", ["no", "zh-cn"])
def test_every_language_is_read_as_text(made, language: str):
    """A bare `no` is false in YAML."""
    described, *rest = made
    rules = described.rules | {"language": language}
    card = DatasetCard(dataset_card(replace(described, rules=rules), *rest))
    assert card.data.to_dict()["language"] == [language]


@pytest.mark.parametrize(
    ("pairs", "category"),
    [
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (1_800_000_000, "1B<n<10B"),
        (10**12 - 1, "100B<n<1T"),
        (10**12, "n>1T"),
    ],
)
def test_size_categories_of_the_hub(pairs: int, category: str):
    assert size_category(pairs) == category


def test_names_of_somebody_else_are_code(made: Made):
    manifest, funnel = made[:2]
    file = replace(manifest.input[0], path="/h/<script>`\n## a.csv", format="csv")
    card = dataset_card(replace(manifest, input=[file]), funnel, Contents(), {})
    assert "``<script>`?## a.csv``" in card


def test_uses_say_how_images_and_texts_were_changed(made: Made):
    manifest, funnel = made[:2]
    others = {
        "have the bytes that were fetched": replace(
            manifest, resize=manifest.resize | {"resize_mode": "original"}
        ),
        "was resized (`border`, 256 px)": replace(
            manifest, resize=manifest.resize | {"resize_mode": "border"}
        ),
        "images are links": replace(manifest, job=manifest.job | {"text_only": True}, shards={}),
    }
    for text, of in others.items():
        card = dataset_card(of, funnel, Contents(), {})
        assert [text in card for text in others] == [other is of for other in others.values()]
        assert "not for\nidentifying people" in card
    closed = replace(manifest, fetch=manifest.fetch | {"allow_private_addresses": False})
    cards = [dataset_card(of, funnel, Contents(), {}) for of in (manifest, closed)]
    assert ["may not be public" in card for card in cards] == [True, False]
