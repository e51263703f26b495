"""No document says the opposite of another: by feature, what each says where it is on and off.

Manifests and funnels are made here, as runs with and without the feature leave them.
"""

import json
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
from huggingface_hub import DatasetCard
from msgspec import UNSET

from alignset.pipeline.datasets.contents import Contents
from alignset.pipeline.datasets.funnel import funnel as steps_of
from alignset.pipeline.documents.card import WIDTH, dataset_card, funnel_svg, tar_pattern
from alignset.pipeline.documents.croissant import MOST_TARS, TO_BE_FILLED, croissant
from alignset.pipeline.inputs.splits import InputFile
from alignset.pipeline.runs.documents import (
    Days,
    Deduplication,
    FetchReport,
    Funnel,
    Grown,
    Manifest,
    NamedList,
    OptOuts,
    ShardEntry,
    SourceSet,
    Step,
    Takedown,
)
from alignset.pipeline.settings import Settings, deciding_settings
from alignset.transforms.corpus.corpus_documents import (
    CountClass,
    HashFile,
    VocabularyFile,
    VocabularySummary,
)
from alignset.transforms.decontamination.overlap_settings import INDEX_SETTINGS, EvaluationSet
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.rules.catalogue import PRODUCT, make_catalogue
from alignset.transforms.safety.model_files import OPEN_NSFW
from alignset.transforms.shards.shard_stats import NearDuplicates, SharedContents

READ, KEPT = 30, 12
MODEL, LISTS = replace(OPEN_NSFW, path="nsfw.onnx"), [NamedList("mine", "ab12", {"url": 3})]


@dataclass
class Made:
    """Manifest and funnel of a dataset, and of the datasets that it was made of, and its contents;
    by default a run with the usual settings from URLs, of one shard."""

    manifest: Manifest
    funnel: Funnel
    earlier: dict[str, Manifest]
    contents: Contents

    @property
    def documents(self) -> dict[str, str]:
        """The text of each on one line, without marks of Markdown."""
        card = dataset_card(self.manifest, self.funnel, self.contents, self.earlier)
        texts = {
            "card": card,
            "croissant": croissant(self.manifest, self.funnel, self.earlier).decode(),
            "svg": funnel_svg(self.funnel.steps),
        }
        return {
            name: " ".join(text.replace("**", "").replace("`", "").split())
            for name, text in texts.items()
        }


def make(
    dropped: dict[str, int] | None = None,
    *,
    earlier: dict[str, Manifest] | None = None,
    of_funnel: dict[str, Any] | None = None,
    contents: Contents | None = None,
    **changes: Any,
) -> Made:
    """A dataset.

    Args:
      dropped: pairs by reason. of_funnel, changes: fields of the funnel and of the manifest;
        settings are added to those that there are.
    """
    settings = deciding_settings(Settings(input="in.csv", output="out"))
    del settings["rules"]["language_detector"], settings["job"]["columns"]
    settings = {name: of | changes.pop(name, {}) for name, of in settings.items()}
    vocabulary = VocabularySummary(
        by_count=[CountClass(1, 1, 12, 12)],
        cut_off_count=0,
        ngrams=12,
        share_of_occurrences=1.0,
        vocabulary=12,
    )
    file = VocabularyFile(96, "vocabulary.u64", "cd34", "")
    counts = Counter[str](dropped or {"too_small": READ - KEPT})
    pairs = READ - counts.total()
    fields = {
        "input": [InputFile("/home/me/in.csv", 100, "csv")],
        "evaluation": [],
        "given_vocabulary": None,
        "versions": {"alignset": "0.3.0"},
        "pairs": pairs,
        "vocabulary": replace(vocabulary, file=file),
        "evaluation_images": {},
        "shards": {"00000": ShardEntry(pairs, "ab" * 32 if pairs else None)},
        "fetched": Days("2026-11-25", "2026-11-26"),
        "unsafe_model": MODEL,
    }
    manifest = Manifest(**(settings | fields | changes))
    catalogue = make_catalogue((), manifest.rules)
    of_texts = {reason for reasons in catalogue.text_steps.values() for reason in reasons}
    images = {reason: n for reason, n in counts.items() if reason not in of_texts}
    text_only = manifest.job["text_only"]
    steps = steps_of(
        READ, counts, None if text_only else images, counts.get("taken_down"), catalogue
    )
    shared = UNSET if text_only else SharedContents(4, 2)
    funnel = Funnel(
        **{
            "fetch": FetchReport(READ, 0, {}, []),
            "pairs": pairs,
            "steps": steps,
            "vocabulary": vocabulary,
            "copies": shared,
        }
        | (of_funnel or {})
    )
    return Made(manifest, funnel, earlier or {}, contents or Contents())


SCORES = {"rules": PRODUCT.opened, "fetch": {"opt_outs": "report"}}
RANKED = {"rules": {"keep_most_similar": 0.5}, "dropped": {"less_similar": 6}}
EXAM = {"evaluation_images": {"exam": EvaluationSet(12, 3)}, "overlap": INDEX_SETTINGS}
BARE = {"fetched": UNSET, "unsafe_model": UNSET}
TEXTS = BARE | {"job": {"text_only": True}, "shards": {}}
HELD = {"00000": ShardEntry(KEPT, "ab" * 32)}
NO_COPY = {"copies": SharedContents()}
BEFORE = make(
    rules={"max_unsafe_score": 0.5, "min_words": 7},
    fetched=Days("2026-11-20", "2026-11-20"),
    blocklists=LISTS,
    takedowns=[Takedown("2026-11-28", LISTS, 1, 0, False, "privacy")],
    job={"score_model": "clip"},
    **EXAM,
).manifest
STAGES = [SourceSet("history/00", 8, [Step("decode", 20, 8, {"opted_out": 5, "blocked": 7})])]
SECOND = BARE | {"earlier": {"history/00": BEFORE}, "of_funnel": {"history": STAGES}}
LEFT = {"day": "2026-11-27", "dropped": {"duplicate_image": 8}}
GRAPHICS = NO_COPY | {"near_duplicates": NearDuplicates(3, distances=[9])}
SETS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bare": BARE,
    "exact": {"job": {"duplicates": "exact"}, "of_funnel": NO_COPY},
    "near": {"job": {"duplicates": "near"}, "of_funnel": NO_COPY},
    "deduplicated": {"deduplications": [Deduplication(**LEFT)], "of_funnel": NO_COPY},
    "nearly": {"deduplications": [Deduplication(**LEFT, near=True)], "of_funnel": GRAPHICS},
    "similar": {"columns": {"similarity": "double"}},
    "scored": {"job": {"score_model": "clip"}},
    "ranked": {"columns": {"similarity": "double"}} | RANKED,
    "scores": SCORES | {"dropped": {"fetch_failed": 6}},
    "scores ranked": SCORES | RANKED | {"rules": PRODUCT.opened | RANKED["rules"]},
    "clean": SCORES | EXAM | {"rules": PRODUCT.opened | {"min_evaluation_distance": 0.5}} | BARE,
    "exam": EXAM,
    "by phash": EXAM | {"rules": {"min_evaluation_distance": 6.0}, "overlap": {"measure": "phash"}},
    "exam scored": EXAM | {"rules": {"min_evaluation_distance": 0.0}},
    "no scores": {"unsafe_model": UNSET},
    "unsafe kept": {"rules": {"max_unsafe_score": 1.0}},
    "no robots": {"fetch": {"robots_txt": False, "disallowed_header_directives": ""}},
    "reported": {
        "fetch": {"opt_outs": "report"},
        "of_funnel": {"opted_out": OptOuts("report", {"c2pa": 7})},
    },
    "opted out": {"of_funnel": {"opted_out": OptOuts("reject", {"x_robots_tag": 1200})}},
    "blocked": {"blocklists": LISTS, "dropped": {"blocked": 3}},
    "taken": {
        "takedowns": [Takedown("2026-11-28", LISTS, 1, 0, False, "privacy")],
        "dropped": {"too_small": READ - KEPT, "taken_down": 1},
    },
    "grown": {"grown": Grown("ab", "2026-11-30", 7, {"rare_token": 5}, 3, 1_000)},
    "all held": {"shards": {}, "holdout": HELD},
    "held exact": {"holdout": HELD, "of_funnel": NO_COPY, "job": {"holdout_copies": "keep"}},
    "held": {"holdout": HELD, "job": {"holdout_copies": "keep"}},
    "any language": {"rules": {"language": ""}},
    "detected": {"rules": {"language": "all"}},
    "texts": TEXTS,
    "crawled": {"of_funnel": {"pages": PageCounts(first_day="2024-05-18", last_day="2024-05-30")}},
    "no days": {"of_funnel": {"pages": PageCounts()}},
    "one day": {"fetched": Days("2026-11-25", "2026-11-25")},
    "empty": {"dropped": {"too_small": READ}},
    "second": SECOND,
    # A dataset of texts between loses the images, and what was said of them.
    "second by texts": SECOND | {"earlier": {"a/b": BEFORE, "a": make(**TEXTS).manifest}},
    "named": {"about": {"title": 'Birds: "all"', "description": "Small.", "license": "cc0-1.0"}},
    "licensed": {"contents": Contents(pairs=KEPT, licences={"LICENSE": {"cc|by": 4}})},
    "private": {"fetch": {"allow_private_addresses": True}},
    "original": {"resize": {"resize_mode": "original"}},
    "border": {"resize": {"resize_mode": "border"}},
    "words given": {
        "given_vocabulary": HashFile("/home/me/old.u64", 8, "ab12"),
        "vocabulary": VocabularySummary(vocabulary=4321),
    },
}
ONCE, TWICE = "no two images have the same bytes", "4 images have the bytes of another"
ALIKE, UNLIKE = "look alike one was kept", "images that nearly equal each other stay"
UNSCORED, NO_FILTER = "No model has compared the two", "No filter was applied"
UNFILTERED, ALIGN = "shocking images are not filtered", "filters of ALIGN (Jia et al., 2021"
UNPROTECTED = "Copies of test sets may be in here"
NOT_OUT = "No pair was left out because of an opt-out"
DECODED = "exam (12 images, and 3 that could not be decoded and are not protected). Images at a "
GIVEN = "an earlier run: 4,321 unigrams and bigrams, SHA-256 of their hashes ab12"
GIVEN_SCORES = "scores came with the input (similarity)"
MADE_HERE = "compared nothing. Earlier, of history/00: a model scored each pair"
NO_ROBOTS = "robots.txt was not honoured, and an X-Robots-Tag was not honoured."
TAKEN = "2026-11-28: 1 pair, by mine: they show or name people."
BY_BYTES, BY_URL = "none has the bytes of an image in", "the same image at another URL may be in"
LISTED = "Pairs on one of these lists were dropped as blocked: mine (3 url; SHA-256 ab12)."
GRAPHIC = f"{ONCE}; 3 graphics looked like another and stayed; of photographs that {ALIKE}"
BOTH, CARD, CROISSANT, SVG = ("card", "croissant"), ("card",), ("croissant",), ("svg",)


@pytest.mark.parametrize(
    ("here", "there", "said", "unsaid", "names"),
    [
        # Two datasets, what is said of each and not of the other, and by which documents.
        ("exact", "plain", ONCE, TWICE, BOTH),
        ("deduplicated", "plain", ONCE, TWICE, BOTH),
        ("deduplicated", "plain", "2026-11-27: 8 pairs left for their duplicates.", "", BOTH),
        ("nearly", "plain", GRAPHIC, UNLIKE, BOTH),
        ("near", "plain", ALIKE, UNLIKE, BOTH),
        ("similar", "plain", GIVEN_SCORES, UNSCORED, BOTH),
        ("scored", "plain", "a model scored each pair (similarity)", UNSCORED, BOTH),
        ("ranked", "similar", "a share of 0.5 of the pairs was kept by it", "", BOTH),
        ("ranked", "similar", "less_similar: 6", "", SVG),
        ("scores", "plain", NO_FILTER, ALIGN, BOTH),
        ("scores ranked", "scores", "these left: less_similar (6)", NO_FILTER, BOTH),
        ("clean", "plain", "took copies of evaluation images out of existing", ALIGN, BOTH),
        ("exam", "plain", f"{DECODED}distance (0 to 2) below 0.25 were", UNPROTECTED, BOTH),
        ("exam", "by phash", "In tests with 50 JPEGs", "distance by phash of an earlier", CARD),
        ("exam scored", "exam", "No image was dropped for them", "were dropped as copies", BOTH),
        ("plain", "no scores", "score above 0.5 by nsfw.onnx were dropped", UNFILTERED, BOTH),
        ("unsafe kept", "plain", "none was dropped for its score", "with a score above", BOTH),
        ("no robots", "plain", NO_ROBOTS, "robots.txt was honoured", BOTH),
        ("reported", "opted out", NOT_OUT, "| x_robots_tag | 1,200 |", CARD),
        ("reported", "plain", "Pairs with an opt-out were kept", "", BOTH),
        ("blocked", "plain", LISTED, NOT_OUT, CARD),
        ("taken", "plain", TAKEN, "", BOTH),
        ("taken", "plain", "| taken_down | 1 |", NOT_OUT, CARD),
        ("taken", "plain", "taken_down: 1, 3.3% of all", "", SVG),
        ("grown", "plain", "2026-11-30: grown from an earlier version; 7 pairs joined", "", BOTH),
        ("grown", "plain", "5 left (rare_token 5); 3 images fetched, 1,000 known.", "", BOTH),
        ("all held", "plain", "12 of these pairs, which are held out", "load_dataset", CARD),
        ("held exact", "held", BY_BYTES, BY_URL, CARD),
        ("any language", "plain", "texts of all languages were kept", "a program judged", BOTH),
        ("detected", "plain", "a program found each text's", "a program judged", BOTH),
        ("texts", "plain", "Images: none was fetched, so no rule", "Unsafe images", BOTH),
        ("bare", "plain", "No image was fetched by this run", "While images were fetched", BOTH),
        ("crawled", "no days", "crawled from 2024-05-18 to 2024-05-30.", "", BOTH),
        ("one day", "bare", "fetched on 2026-11-25 (UTC", "they were fetched are unknown", BOTH),
        ("empty", "plain", "0 pairs of images", "train_sidecars", CROISSANT),
        ("empty", "plain", "No shards to train on", "load_dataset", CARD),
        ("empty", "plain", "0 of 30 pairs (0.0%) were kept", "12 of 30", SVG),
        ("second", "bare", "Earlier, of history/00: Compared with", UNPROTECTED, BOTH),
        ("second", "bare", "scored no image. Earlier, of history/00:", UNFILTERED, BOTH),
        ("second", "bare", MADE_HERE, UNSCORED, BOTH),
        ("second", "bare", "Earlier, of history/00: While images were fetched", "", BOTH),
        ("second", "bare", "fetched on 2026-11-20", "when they were fetched are unknown", BOTH),
        ("second", "bare", "Earlier, of history/00: Pairs on one of these lists", "", CARD),
        ("second", "bare", "Earlier, of history/00: Texts were kept by the 12", "", CARD),
        ("second", "bare", "| history/00: blocked | 7 |", NOT_OUT, CARD),
        ("second", "bare", "Rules that differed: - min_words 7", "", CARD),
        ("second by texts", "second", UNPROTECTED, "Earlier, of history/00: Compared", BOTH),
        ("named", "plain", 'Birds: "all" Small. Made by', "Licence: to be filled by", CARD),
        ("licensed", "plain", "| LICENSE | cc\\|by | 4 |", "No licence is on record", CARD),
        ("private", "plain", "may not be public", "", CARD),
        ("private", "plain", "add --allow_private_addresses.", "", CARD),
        ("second", "bare", "Earlier, of history/00: 2026-11-28: 1 pair, by", "", BOTH),
        ("original", "border", "have the bytes that were", "was resized (border, 256 px)", CARD),
        ("words given", "plain", GIVEN, "they occur", CARD),
    ],
)
def test_no_document_says_the_opposite(
    here: str, there: str, said: str, unsaid: str, names: tuple[str, ...]
) -> None:
    for name, words, others in ((here, said, unsaid), (there, unsaid, said)):
        for document, text in make(**SETS[name]).documents.items():
            assert not words or words in text or document not in names, document
            assert not others or others not in text, document
            assert "/home/me" not in text


def test_the_card_says_which_rules_an_earlier_dataset_had_off() -> None:
    rules = PRODUCT.opened | {"language": "", "min_words": 7}
    of_funnel = {"history": [SourceSet("history/d1")]}
    earlier = {"history/d1": make(rules=rules).manifest}
    card = make(rules={"min_words": 3}, earlier=earlier, of_funnel=of_funnel).documents["card"]
    assert "Rules that differed: - language all - min_words 7 - max_words off -" in card


def test_the_card_is_read_by_the_hub_whatever_is_in_it() -> None:
    about = {"title": 'Birds: "all" of them', "description": "Of gardens.", "license": "cc0-1.0"}
    paths = ("val/shards/0.tar", "holdout/0.tar", "c`\n# d.tar", *(f"{n}.tar" for n in range(7)))
    made = make(
        about=about,
        rules={"language": "no,zh-cn", "min_column=a|b": 0.5, "max_words": 1_000_000_000},
        job={"text_only": False},
        fetch={"contact": "`|<b>"},
        input=[InputFile(f"/home/me/{path}", 100, "webdataset") for path in paths],
        columns={"seen": "timestamp[ms]", "boxes": {"list": {"list": "double"}}},
        vocabulary=VocabularySummary(
            by_count=[CountClass(10, 3, 0, 0), CountClass(1000, 101, 1, 999)],
            cut_off_count=3,
            ngrams=5,
            share_of_occurrences=0.5,
            file=VocabularyFile(8, "vocabulary.u64", "", ""),
        ),
        contents=Contents(
            shards=1, pairs=KEPT, examples=["{}"], languages={"no": 4}, licences={"l|": {"": 3}}
        ),
    )
    text = dataset_card(made.manifest, made.funnel, made.contents, {})
    card = DatasetCard(text)
    assert (card.data.pretty_name, card.data.license) == (about["title"], "cc0-1.0")
    assert card.data.to_dict()["language"] == ["no"]  # a bare `no` is false in YAML
    (image, fields, *_) = card.data.to_dict()["dataset_info"]["features"]
    assert image == {"name": "jpg", "dtype": "image"}
    types = {of.pop("name"): of for of in fields["struct"]}
    assert types["width"] == {"dtype": "int32"}
    assert types["seen"] == types["language"] == {"dtype": "string"}
    assert types["boxes"] == {"list": {"list": "double"}}
    for said in (
        '# Birds: "all" of them\n\nOf gardens.\n\nMade by',
        "- 10 files of format webdataset, 1,000 bytes: `0.tar`, `1.tar`, `2.tar`, `3.tar`, `4.tar`,"
        " and 5 more, which",
        "| `min_column=a\\|b` | 0.5 | Column a\\|b, at least 0.5 |",
        "| `max_words` | off |  |",
        "removed, write to `` `|<b> `` and",
        "| `l\\|` | other values | 3 |",
        "| `no` | 4 | 33.3% |",
        "Some or all that occur 3 times are left out, and all rarer ones.\n`vocabulary.u64` holds",
        "| 3 to 10 times | 0 | 0 |\n| 101 to 1,000 times | 1 | 999 |",
    ):
        assert said in text, said
    files = [InputFile(f"/home/me/{path}", 1, "<i>\n") for path in paths[:3]]
    text = dataset_card(replace(made.manifest, input=files), made.funnel, Contents(), {})
    assert "`<i>?`, 3 bytes: ``c`?# d.tar``, `holdout/0.tar`, `shards/0.tar`" in text
    # Settings of another make are not expected to be there.
    bare = replace(BEFORE, rules={}, fetch={}, job={}, overlap={})
    assert (
        "score above ? by" in make(**SECOND | {"earlier": {"history/00": bare}}).documents["card"]
    )


def test_without_pairs_there_is_nothing_to_load() -> None:
    empty = make({"too_small": READ})
    card = DatasetCard(dataset_card(empty.manifest, empty.funnel, Contents(), {}))
    assert {"configs", "dataset_info", "license"} & card.data.to_dict().keys() == {"license"}
    document = json.loads(croissant(empty.manifest, empty.funnel, {}))
    assert [record["@id"] for record in document["recordSet"]] == ["rejected"]
    texts = make(job={"text_only": True}, shards={}, **BARE)
    card = DatasetCard(dataset_card(texts.manifest, texts.funnel, Contents(), {}))
    (config,) = card.data.to_dict()["configs"]
    assert config["data_files"] == "pairs/*.parquet"


def test_of_very_many_tars_none_is_named() -> None:
    for tars, named in ((MOST_TARS, MOST_TARS), (MOST_TARS + 1, 0)):
        made = make(shards={f"{n:05d}": ShardEntry(10, "ab" * 32) for n in range(tars)})
        document = json.loads(croissant(made.manifest, made.funnel, {}))
        kinds = [node["@type"] for node in document["distribution"]]
        assert kinds.count("cr:FileObject") == named
        assert document["license"] == TO_BE_FILLED


def test_the_tars_that_open_clip_is_given() -> None:
    from webdataset.shardlists import expand_urls

    for numbers in ([0], [0, 1, 2], [1, 2, 5, 7]):
        tars = expand_urls(tar_pattern(numbers))
        assert tars == [f"shards/{number:05d}.tar" for number in numbers]


SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert(1)</script>&"
DROPPED = {"malformed_pair": 1, "too_few_words": 2500, "fetch_failed": 5000}
EVERYTHING = dict.fromkeys((*PRODUCT.reasons[:-2],), 10**10)


@pytest.mark.parametrize(
    ("steps", "words", "kept", "dropped"),
    [
        (
            steps_of(10_000, DROPPED, DROPPED),
            [
                "2,499 of 10,000 pairs (25.0%) were kept",
                "malformed_pair: 1, <0.1% of all",
                "too_few_words: 2,500, 25.0% of all",
                "fetch_failed: 5,000, 50.0% of all",
            ],
            99.96,
            [1.5, 100.0, 200.0],  # one pair can be seen
        ),
        (steps_of(0, {}, {}), ["0 of 0 pairs were kept"], 0, []),
        ([Step(HOSTILE, 2, 1, {HOSTILE: 1})], [HOSTILE, f"{HOSTILE}: 1, 50.0% of all"], 200, [200]),
        (steps_of(10**12, EVERYTHING, EVERYTHING), [], None, None),
    ],
)
def test_the_funnels_picture(
    steps: list[Step], words: list[str], kept: float | None, dropped: list[float] | None
) -> None:
    picture = ET.fromstring(funnel_svg(steps))
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert [word for word in words if word not in texts] == []
    assert not [*picture.iter(f"{SVG}script")]
    _, _, width, height = map(float, picture.get("viewBox", "").split())
    assert width == WIDTH
    assert all(0 < float(text.get("y", "")) < height for text in picture.iter(f"{SVG}text"))
    bars = [*picture.iter(f"{SVG}rect")]
    lengths = {
        kind: [float(bar.get("width", "")) for bar in bars if bar.get("class") == kind][1:]
        for kind in ("kept", "dropped")  # without the legend's
    }
    assert all(float(bar.get("x", "")) + float(bar.get("width", "")) <= width for bar in bars)
    assert len(lengths["kept"]) == len(steps)
    style = picture.findtext(f"{SVG}style") or ""
    assert all(f".{bar.get('class')} {{ fill" in style for bar in bars)
    if kept is not None:
        assert lengths["kept"][-1] == pytest.approx(kept, abs=0.1)
        assert lengths["dropped"] == dropped
