"""The funnel, what is said at the end of a run, and the command on the card."""

import shlex
from collections import Counter
from dataclasses import replace

import pytest
from msgspec import UNSET

from alignset.pipeline.datasets.funnel import drops_of, funnel
from alignset.pipeline.datasets.reproduce import commands
from alignset.pipeline.datasets.summary import (
    HINTS,
    flags,
    hint_of,
    render_funnel,
    render_vocabulary,
    summary_lines,
    too_little,
)
from alignset.pipeline.inputs.splits import InputFile
from alignset.pipeline.options import parse
from alignset.pipeline.runs.documents import (
    BrokenInput,
    Connections,
    Deduplication,
    FetchReport,
    Funnel,
    Grown,
    Manifest,
    NamedList,
    NamedRules,
    OptOuts,
    SourceSet,
    Takedown,
)
from alignset.pipeline.settings import REPORTED, Settings, deciding_settings
from alignset.transforms.corpus.corpus_documents import CountClass, HashFile, VocabularySummary
from alignset.transforms.decontamination.overlap_settings import INDEX_SETTINGS, EvaluationFile
from alignset.transforms.fetching.fetch_settings import FETCH_DETAILS
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.rules.catalogue import PRODUCT, TAKEDOWN_STEPS, column_numbers
from alignset.transforms.safety.model_files import ModelInput, UnsafeModel, usual_model
from alignset.transforms.shards.shard_stats import FailingHost, NearDuplicates, SharedContents
from alignset.transforms.storage.broken_files import BrokenFile
from alignset.transforms.storage.documents import add_by_name, read_document
from tests.support.golden_run import Golden
from tests.support.rules import STEPS


def made(seen: int, dropped: dict[str, int], *, text_only: bool = False, **fields) -> Funnel:
    """A funnel; every failed fetch is a `dns`, unless `fetch` says more."""
    failed = dropped.get("fetch_failed", 0)
    report = FetchReport(seen, failed, {"dns": failed} if failed else {}, [])
    return Funnel(
        **{
            "fetch": report,
            "pairs": seen - sum(dropped.values()),
            "steps": funnel(seen, dropped, None if text_only else dropped),
            "vocabulary": VocabularySummary(vocabulary=0),
        }
        | fields
    )


def broken(count: int) -> BrokenInput:
    return BrokenInput(broken=count, details={"damaged": count}, named=[], files=10)


@pytest.mark.parametrize(
    ("of", "said"),
    [
        (made(1000, {"fetch_failed": 990}), ""),
        (
            made(1000, {"fetch_failed": 991}),
            "9 of 1,000 pairs were kept: 991 fetches failed with dns",
        ),
        (made(1000, {"fetch_failed": 500, "too_small": 500}), "500 fetches failed with dns"),
        (
            made(1000, {"fetch_failed": 400, "too_small": 600}),
            "600 were dropped as too_small; the rule's",
        ),
        (made(1000, {"too_small": 999}), ""),  # a strict rule may leave few
        (made(1000, {"too_small": 1000}), "0 of 1,000 pairs were kept"),
        (
            made(3, {"rare_token": 3}, text_only=True),
            "3 were dropped as rare_token; the rule's flag is --vocabulary_size",
        ),
        (made(0, {}), "the input holds no pair"),
        (made(1, {}), ""),
        (made(9, {"too_few_words": 8}, text_only=True), ""),
        (
            made(9, {"too_few_words": 9}, text_only=True),
            "is --min_words; alignset look OUT --reason=too_few_words shows some",
        ),
        (made(100, {"too_small": 1}, broken_input=broken(5)), ""),
        (made(100, {"too_small": 1}, broken_input=broken(6)), "6 of 10 input files were broken"),
        (made(9, {"too_small": 4}, holdout=4), ""),
        (made(9, {"too_small": 4}, holdout=UNSET), ""),
        (made(9, {"too_small": 4}, holdout=5), "all 5 pairs are held out"),
    ],
)
def test_what_is_said_of_too_little(of: Funnel, said: str) -> None:
    line = too_little(of)
    assert said in line
    assert bool(line) == bool(said)


def test_each_flag_is_of_a_reason_and_each_hint_of_a_detail() -> None:
    assert set(flags()) <= set(PRODUCT.reasons)
    assert all(any(detail.startswith(begin) for detail in FETCH_DETAILS) for begin in HINTS)
    assert "rate limiting" in hint_of("dns")
    assert hint_of("http_503") == hint_of("http_500") != ""
    assert hint_of("http_418") == ""


HOSTILE = "\x1b[2Ja.org"
SHARED = SharedContents(4, 2)
SUMMARY = VocabularySummary(
    ngrams=5750,
    vocabulary=1200,
    cut_off_count=3,
    occurrences=20_000,
    share_of_occurrences=0.87654,
    by_count=[CountClass(min_count=1, max_count=1, ngrams=2048, occurrences=2048)],
)
NEAR = NearDuplicates(9, compared=3, alike=1)


@pytest.mark.parametrize(
    ("fields", "said", "unsaid"),
    [
        (
            {
                "fetch": FetchReport(
                    100,
                    56,
                    {"dns": 36, "http_404": 18, "http_500": 1, "timeout": 1},
                    [FailingHost({"dns": 35, "timeout": 1}, 36, HOSTILE)],
                    Connections(1024, {"rising": 7, "hosts": 1, "CPU": 9}),
                )
            },
            (
                "56 of 100 fetches failed (56.0%)",
                "36   36.0%  is the resolver rate limiting?",
                "timeout                       1    1.0%\n",
                "?[2Ja.org",
                "  dns 35, timeout 1",
                "at most 1,024 connections at once in a worker; limited by CPU (9 shards), hosts",
            ),
            "rising",
        ),
        ({"fetch": FetchReport(9, 0, {}, [])}, (), "failed"),
        (
            {"fetch": FetchReport(9, 0, {}, [], Connections(8, {"rising": 2}))},
            ("at once in a worker; nothing limited them",),
            "rising",
        ),
        ({"copies": UNSET}, (), "copies: "),
        ({"copies": SharedContents()}, ("copies: no two images have the same bytes",), ";"),
        (
            {"copies": SHARED, "near_duplicates": NEAR},
            ("copies: 4 images have the bytes of another, in 2 groups; about 3 look like",),
            "no two",
        ),
        (
            {"copies": SHARED, "near_duplicates": NearDuplicates(3, distances=[9])},
            ("in 2 groups; 3 graphics looked like another and stayed",),
            "about",
        ),
        (
            {"opted_out": OptOuts("reject", {"c2pa": 1200})},
            ("not wanted by its owner, dropped: c2pa 1,200; see",),
            "kept, with",
        ),
        ({"opted_out": OptOuts("report", {"c2pa": 1})}, ("owner, kept, with it in",), "dropped: "),
        (
            {"pages": PageCounts(pages=7, records=9, not_ok=2, pairs=1)},
            ("pages: 7 of 9 records; 2 not 2xx; 0 broken; 1 pair",),
            "not HTML",
        ),
        (
            {
                "broken_input": BrokenInput(
                    broken=22,
                    details={"damaged": 22},
                    named=[BrokenFile(HOSTILE, "damaged", "it ends")] * 21,
                    files=30,
                )
            },
            (
                "22 of 30 input files could not be read to their end, and what could not be read "
                "was left out: 22 damaged\n  \\x1b[2Ja.org (damaged: it ends)\n",
                "  and 2 more: rejected/",
            ),
            "\x1b",
        ),
        (
            {"vocabulary": SUMMARY},
            (
                "vocabulary: 1,200 of 5,750 n-grams; 87.7% of 20,000 occurrences; "
                "cut within those that occur 3 times; 2,048 occur once",
            ),
            "",
        ),
        (
            {"vocabulary": replace(SUMMARY, cut_off_count=0, by_count=[])},
            ("87.7% of 20,000 occurrences; nothing cut; 0 occur once",),
            "",
        ),
        ({}, ("vocabulary: 0 n-grams, of the given file",), ""),
        (
            {"history": [SourceSet("history/00", 8, funnel(9, {})), SourceSet("history/01")]},
            (
                "history/00: a source dataset with 8 pairs\nstep ",
                "history/01: a source dataset, from another version of alignset\n",
            ),
            "history/02",
        ),
    ],
)
def test_the_lines_at_the_end_of_a_run(fields: dict, said: tuple[str, ...], unsaid: str) -> None:
    text = "\n".join(summary_lines(made(100, {"too_small": 44}, **fields)))
    assert text.isascii()
    assert [words for words in said if words not in text] == []
    assert unsaid not in text.partition("vocabulary: ")[2] or not unsaid


def test_no_pairs_at_all():
    table = funnel(0, {}, {})
    assert [step.step for step in table] == list(STEPS)
    assert "0.0%" in render_funnel(table)


def test_a_reason_of_both_planes_counts_in_each_and_what_is_taken_down_comes_last():
    texts, images = {"blocked": 3, "rare_token": 1}, {"blocked": 2, "fetch_failed": 1}
    table = funnel(10, texts, images, taken_down=2)
    assert table[-1].kept == 1
    dropped = {
        step.step: sum(step.dropped.values()) for step in table if any(step.dropped.values())
    }
    assert dropped == {
        **{"blocklist": 3, "rare_tokens": 1, "fetch": 1},
        **{"blocked_images": 2, "takedown": 2},
    }
    stages = PRODUCT.text_steps, PRODUCT.image_steps, TAKEDOWN_STEPS
    assert [drops_of(table, steps).get("blocked") for steps in stages] == [3, 2, None]
    assert drops_of(table[:-1], TAKEDOWN_STEPS) == {}
    assert [step.step for step in funnel(10, texts)] == [*PRODUCT.text_steps]


def test_the_golden_run_counts_every_fate(golden: Golden):
    written = read_document(f"{golden.output}/funnel.json", Funnel)
    expected = Counter(fate.reason for fate in golden.fates)
    dropped = add_by_name(step.dropped for step in written.steps)
    assert dropped == {reason: expected[reason] for reasons in STEPS.values() for reason in reasons}
    elsewhere = {  # tests/runs/ have such pairs in runs of their own
        *("broken_page", "broken_input", "blocked", "removed_before", "opted_out", "unsafe"),
        *("duplicate_image", "duplicate_of_training"),
    }
    assert {reason for reason, count in dropped.items() if not count} == elsewhere
    assert written.steps[0].seen == len(golden.fates)
    assert written.steps[-1].kept == written.pairs == expected[None]
    assert render_funnel(written.steps) in golden.said
    assert render_vocabulary(written.vocabulary) in golden.said.splitlines()


MODEL = ModelInput(
    input="in",
    layout="NHWC",
    size=8,
    channels="RGB",
    mean=(0, 0, 0),
    scale=(1, 1, 1),
    output="out",
    unsafe_classes=(1,),
)


@pytest.fixture
def described(golden: Golden) -> Manifest:
    return read_document(f"{golden.output}/manifest.json", Manifest)


def parsed(command: str) -> Settings:
    program, name, *flags = shlex.split(command.replace("\\\n", " "))
    assert (program, name) == ("alignset", "curate")
    return parse(flags)


def settings_of(settings: Settings) -> dict[str, dict]:
    groups = deciding_settings(settings)
    if not settings.columns:
        del groups["job"]["columns"]
    groups["rules"] = plain_rules(settings) | dict(column_numbers(settings.numbers))
    return groups


def plain_rules(settings: Settings) -> dict:
    """Rules that read no column of the input, as a manifest has them."""
    rules = deciding_settings(settings)["rules"]
    if not settings.language_detector:
        del rules["language_detector"]
    return rules


def settings_in(manifest: Manifest) -> dict[str, dict]:
    fetch = {
        **manifest.fetch,
        "allow_private_addresses": False,
    }  # which nobody else's command opens
    fetch.pop("contact", None)
    return {"job": manifest.job, "rules": manifest.rules, "resize": manifest.resize, "fetch": fetch}


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("job", {}),
        ("rules", {"language": "", "max_image_aspect": 2.5, "min_evaluation_distance": 0.4}),
        ("rules", {"max_unsafe_score": 0.5}),
        ("rules", {"min_evaluation_distance": 0.0}),
        ("job", {"holdout": 0.01, "url_column": "a b's"}),
        ("job", {"columns": "all,input_sha256"}),
        ("rules", {"min_column=a": 0.28, "max_column=a": 1.0, "require_column=input_url": True}),
        ("rules", {"min_column=b": -5.0, "verify_hash": "md5=input_sha256"}),
        ("rules", {"keep_column=a": "x|$y|", "keep_column=b": ""}),
        ("resize", {"resize_mode": "keep_ratio", "resize_only_if_bigger": True}),
        ("fetch", {"robots_txt": True, "user_agent": 'a "b" $HOME `c`'}),
    ],
)
def test_each_setting_comes_back(described: Manifest, part: str, changed: dict):
    changed_manifest = replace(described, **{part: getattr(described, part) | changed})
    (command,) = commands(changed_manifest)
    assert settings_of(parsed(command)) == settings_in(changed_manifest)
    assert "--input=pairs.parquet" in command
    assert "--eval_images=exam=exam" in command.replace("\\\n", " ")
    assert "/tmp" not in command
    assert max(map(len, command.splitlines())) <= 100


@pytest.mark.parametrize(("measure", "distance"), [("phash", 6.0), ("embedding", 0.025)])
def test_a_distance_of_an_earlier_measure_is_no_flag(
    described: Manifest, measure: str, distance: float
):
    rules = described.rules | {"min_evaluation_distance": distance}
    earlier = replace(described, rules=rules, overlap={"measure": measure})
    (command,) = commands(earlier)
    assert "--eval_images=exam=exam" in command
    usual = settings_in(described)  # which compares by the one measure there is
    assert settings_of(parsed(command)) == usual


def test_decontamination_alone_is_one_flag(described: Manifest):
    rules = plain_rules(Settings(input="in", output="out", **PRODUCT.opened)) | {
        "min_evaluation_distance": 0.5
    }
    fetch = described.fetch | REPORTED
    opened = replace(described, rules=rules, overlap=INDEX_SETTINGS, fetch=fetch)
    (command,) = commands(opened)
    assert "--decontaminate_only" in command
    assert "--min_evaluation_distance=0.5" in command
    assert "--max_words" not in command
    assert settings_of(parsed(command)) == settings_in(opened)


def test_files_are_named_without_folders(described: Manifest):
    rules = {name: of for name, of in described.rules.items() if name != "vocabulary_size"}
    more = {"max_pairs_per_concept": 5, "concepts": "words.txt@0123", "max_unsafe_score": 0.3}
    sets = (("a", "/x/val/1.jpg"), ("a", "/x/val/2.jpg"), ("b", "s3://c/flickr/test.tar"))
    given = replace(
        described,
        rules=rules | more,
        job=described.job | {"score_model": "RUN"},
        given_vocabulary=HashFile("/old/vocabulary.u64", 8, "ab"),
        unsafe_model=UnsafeModel("/m/own.onnx", "ab", MODEL),
        evaluation=[EvaluationFile(name, path) for name, path in sets],
        rule_files=[NamedRules(name, "ab", []) for name in ("--score_model=RUN", "mine.py")],
        blocklists=[NamedList("mine", "ef", {"url": 1}), NamedList("list-0f", "0f", {})],
    )
    words = shlex.split(commands(given)[0].replace("\\\n", " "))
    for word in (
        *("--vocabulary=vocabulary.u64", "--unsafe_model=own.onnx", "--concepts=words.txt"),
        *("--eval_images=a=val,b=flickr", "--score_model=RUN", "--rules=mine.py"),
        "--blocklist=mine=FILE,list-0f=FILE",
    ):
        assert word in words
    usual = replace(given, unsafe_model=replace(usual_model(0.5), path="open-nsfw.onnx"))
    assert "--unsafe_model" not in commands(usual)[0]


def test_what_came_after_the_run_are_commands_of_their_own(described: Manifest):
    lists = [NamedList("mine", "ef", {"url": 1})]
    _, takedown, near = commands(
        replace(
            described,
            takedowns=[Takedown("2026-11-28", lists, 1, 0, True, "privacy")],
            deduplications=[Deduplication("2026-11-28", {}, near=True)],
        )
    )
    assert (
        takedown == "alignset takedown OUT --blocklist=mine=FILE --forget_blocked --reason=privacy"
    )
    assert near == "alignset deduplicate OUT --near"


def test_what_has_grown_is_grown_again(described: Manifest):
    rows = InputFile("A/shards/00000.parquet", 9, "rows")
    lists = [NamedList("mine", "ef", {"url": 1})]
    made = replace(described, grown=Grown("ab"), input=[rows], blocklists=lists)
    retry = "alignset grow EARLIER --retry_failed --output=OUT --blocklist=mine=FILE"
    assert commands(made) == [retry]
    crawl = replace(made, input=[rows, InputFile("/x/c.parquet", 9, "parquet")])
    assert commands(crawl)[0].startswith("alignset grow EARLIER --input=c.parquet --output=OUT")
    (text,) = commands(replace(crawl, grown=UNSET))
    assert "--input=EARLIER,c.parquet" in text


def test_names_are_neither_commands_nor_the_end_of_their_block(described: Manifest):
    paths = ("a\n```\n$(rm -rf).csv", "b c", "d", "e")
    files = [InputFile(f"/h/{path}", 1, "csv") for path in paths]
    names = ("x; touch /tmp/pwned #\n", "x$(touch /tmp/pwned)", "x`touch /tmp/pwned`", "x'y")
    rules = {f"min_{name}=column": 1 for name in names} | {f"min_column={names[0]}": 2}
    of_file = NamedRules("r.py", "0" * 64, [{"name": name, "default": 1} for name in names])
    rules |= described.rules | dict.fromkeys(names, 2)
    (command,) = commands(replace(described, input=files, rules=rules, rule_files=[of_file]))
    assert "\n```" not in command
    assert "--input='a?```?$(rm -rf).csv,b c,d,AND_1_MORE'" in command
    words = shlex.split(command.replace("\\\n", " "))
    for name in names:
        printable = name.replace("\n", "?")
        assert f"--min_{printable}=column=1" in words
        assert f"--{printable}=2" in words
    assert f"--min_column={names[0].strip()}?=2" in words
    assert "--allow_private_addresses" not in words
