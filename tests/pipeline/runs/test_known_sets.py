"""Which facts of images may be taken from another dataset, and what is refused in one line."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignset.pipeline.runs.documents import Manifest, NamedRules, RunDescription
from alignset.pipeline.runs.known_sets import made_by, shared_facts
from alignset.pipeline.settings import Settings, deciding_settings
from alignset.transforms.corpus.corpus_documents import VocabularySummary
from alignset.transforms.decontamination.overlap_settings import INDEX_SETTINGS
from alignset.transforms.safety.model_files import usual_model
from tests.support.command import grow, run

VERSIONS = {"alignset": "1", "pillow": "2", "onnxruntime": "3", "pyarrow": "4"}
ALL = {"outcomes", "opt_outs", "unsafe", "overlap:copy-ab", "encoding", "rules"}
GROUPS = deciding_settings(Settings(input="in", output="out"))
PLAIN = {
    **GROUPS,
    **{"input": [], "evaluation": [], "given_vocabulary": None},
    **{"overlap": INDEX_SETTINGS, "unsafe_model": usual_model(0.5)},
    "rule_files": [NamedRules("mine.py", "ab" * 32, [])],
}
# What is other there, and which facts may not be taken then.
OTHER: dict[str, tuple[dict[str, Any], set[str]]] = {
    "nothing": ({}, set()),
    "thresholds": ({"rules": GROUPS["rules"] | {"min_image_side": 9, "max_words": 3}}, set()),
    "agent": ({"fetch": GROUPS["fetch"] | {"user_agent": "x"}}, set()),
    "bytes": ({"fetch": GROUPS["fetch"] | {"max_image_bytes": 9}}, {"outcomes"}),
    "token": ({"fetch": GROUPS["fetch"] | {"user_agent_token": "x"}}, {"opt_outs"}),
    "opt-outs reported": ({"fetch": GROUPS["fetch"] | {"opt_outs": "report"}}, set()),
    "model": ({"unsafe_model": usual_model(0.1)}, {"unsafe"}),
    "no model": ({"unsafe_model": None}, {"unsafe"}),
    "model's folder": ({"unsafe_model": replace(usual_model(0.5), path="/x.onnx")}, set()),
    "measure": ({"overlap": INDEX_SETTINGS | {"measure": "phash"}}, {"overlap:copy-ab"}),
    "index's name": ({"overlap": INDEX_SETTINGS | {"index": "copy-ab"}}, set()),
    "distance": (
        {"rules": GROUPS["rules"] | {"min_evaluation_distance": 0.1}},
        {"overlap:copy-ab"},
    ),
    "size": ({"resize": GROUPS["resize"] | {"resize_mode": "no"}}, {"encoding"}),
    "unused size": ({"resize": GROUPS["resize"] | {"image_size": 9}}, set()),
    "rules": ({"rule_files": [NamedRules("mine.py", "cd" * 32, [])]}, {"rules"}),
    "their name": ({"rule_files": [NamedRules("yours.py", "ab" * 32, [])]}, set()),
    "their flags": (
        {"rule_files": [NamedRules("mine.py", "ab" * 32, [], ["min_x"])]},
        {"rules"},
    ),
    "pillow": (
        {"versions": VERSIONS | {"pillow": "9"}},
        ALL - {"opt_outs", "encoding"},
    ),
    "onnxruntime": ({"versions": VERSIONS | {"onnxruntime": "9"}}, {"unsafe", "overlap:copy-ab"}),
    "pyarrow": ({"versions": VERSIONS | {"pyarrow": "9"}}, set()),
    "alignset": ({"versions": VERSIONS | {"alignset": "9"}}, ALL - {"encoding"}),
}


@pytest.mark.parametrize("name", OTHER)
def test_facts_are_taken_where_what_made_them_is_the_same(name: str) -> None:
    changed, missing = OTHER[name]
    manifest = Manifest(
        **{**PLAIN, "versions": VERSIONS, **changed},
        pairs=1,
        vocabulary=VocabularySummary(),
        evaluation_images={},
        evaluation_index="copy-ab",
        shards={},
    )
    here = made_by(RunDescription(**PLAIN), VERSIONS)
    assert shared_facts(manifest, here) == ALL - missing


def test_what_cannot_tell_of_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("url,caption\nhttp://nowhere.invalid/1,a photo of a dog\n")
    source, out, texts = tmp_path / "pairs.csv", tmp_path / "out", tmp_path / "texts"
    flags = ("--max_unsafe_score=1", "--language=")
    assert run(source, texts, "--text_only", "--language=").status == 0
    for folder in (tmp_path / "none", texts):
        ended = run(source, out, *flags, f"--images_from={folder}")
        assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
        assert f"--images_from: {folder} is not a finished dataset with images/" in ended.err
    ended = run(source, out, *flags, "--retry_failed")
    assert ended.status == 2
    assert f"alignset grow {out} --retry_failed --output=NEW" in ended.err
    ended = grow(texts, tmp_path / "new", "--max_words=3", f"--input={source}")
    assert f"--max_words: grow keeps the rules of {texts}; to change one" in ended.err
    assert "pass --input=PATHS, another crawl" in grow(texts, tmp_path / "new").err
    assert grow(texts, tmp_path / "new", f"--input={source}", "--workers=1").status == 0
