"""The command on the card: parsed, it has the settings that the manifest has."""

import shlex
from dataclasses import replace

import pytest

from alignset.pipeline.datasets.reproduce import commands
from alignset.pipeline.inputs.splits import InputFile
from alignset.pipeline.options import parse
from alignset.pipeline.runs.documents import (
    Deduplication,
    Manifest,
    NamedList,
    NamedRules,
    Retry,
    Takedown,
)
from alignset.pipeline.settings import REPORTED, Settings, deciding_settings
from alignset.transforms.corpus.corpus_documents import HashFile
from alignset.transforms.decontamination.overlap_settings import INDEX_SETTINGS, EvaluationFile
from alignset.transforms.rules.catalogue import PRODUCT, column_numbers
from alignset.transforms.safety.model_files import ModelInput, UnsafeModel, usual_model
from alignset.transforms.storage.documents import read_document
from tests.support.golden_run import Golden

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
    """Those that are not on columns of the input, as a manifest has them."""
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


def test_the_golden_command_has_the_golden_settings(described: Manifest):
    (command,) = commands(described)
    assert settings_of(parsed(command)) == settings_in(described)
    assert "--input=pairs.parquet" in command
    assert "--eval_images=exam=exam" in command.replace("\\\n", " ")
    assert "/tmp" not in command
    assert max(map(len, command.splitlines())) <= 100


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("rules", {"language": "", "max_image_aspect": 2.5, "min_evaluation_distance": 0.4}),
        ("rules", {"max_unsafe_score": 0.5}),
        ("rules", {"min_evaluation_distance": 0.0}),
        ("job", {"holdout": 0.01, "also_rejected": "too_small,rare_token", "url_column": "a b's"}),
        ("job", {"columns": "all,input_sha256"}),
        ("rules", {"min_column=a": 0.28, "max_column=a": 1.0, "require_column=input_url": True}),
        ("rules", {"min_column=b": -5.0, "verify_hash": "md5=input_sha256"}),
        ("resize", {"resize_mode": "keep_ratio", "resize_only_if_bigger": True}),
        ("fetch", {"robots_txt": True, "user_agent": 'a "b" $HOME `c`'}),
    ],
)
def test_each_setting_comes_back(described: Manifest, part: str, changed: dict):
    changed_manifest = replace(described, **{part: getattr(described, part) | changed})
    (command,) = commands(changed_manifest)
    assert settings_of(parsed(command)) == settings_in(changed_manifest)


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
    first, again, takedown, near = commands(
        replace(
            described,
            retries=[Retry(9, 4, None, described.fetch, ["dns", "timeout"])],
            takedowns=[Takedown("2026-11-28", lists, 1, 0, True, "privacy")],
            deduplications=[Deduplication("2026-11-28", {}, near=True)],
        )
    )
    assert again.replace("\\\n ", "").endswith(" --retry_failed=dns,timeout")
    assert again.startswith(first.split("\\")[0])
    assert (
        takedown == "alignset takedown OUT --blocklist=mine=FILE --forget_blocked --reason=privacy"
    )
    assert near == "alignset deduplicate OUT --near"


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
