"""Names of rules of users: none replaces a name that the product's rules have, or flags make."""

from pathlib import Path

import numpy as np
import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.options import parse
from alignset.pipeline.rule_files import INTERNAL_ROWS, names_of_ours
from alignset.pipeline.settings import Settings
from alignset.transforms.arrivals.images import COLUMNS, OBJECTS
from alignset.transforms.corpus.judge_batch import CorpusSets, text_rows
from alignset.transforms.pairs.measure_pairs import measure
from alignset.transforms.rules.catalogue import PRODUCT
from tests.support.made_batches import pair_batch
from tests.support.root import ROOT

RULES = (ROOT / "docs" / "rules.md").read_text()
DIGITS, SATURATION = (part.partition("```")[0] for part in RULES.split("```python\n")[1:3])


def parsed(tmp_path: Path, code: str, *flags: str) -> Settings:
    (tmp_path / "own.py").write_text(code)
    return parse(["--input=a", "--output=b", f"--rules={tmp_path}/own.py", *flags])


def test_a_reason_of_a_column_rule_is_taken(tmp_path: Path) -> None:
    code = DIGITS.replace("too_many_digits", "low_quality")
    with pytest.raises(UsageError, match="'low_quality' is that of --min_column=quality; choose"):
        parsed(tmp_path, code, "--min_column=quality=0.5")
    rules = parsed(tmp_path, code, "--min_column=other=0.5")
    assert {"low_quality", "low_other"} <= set(rules.catalogue.reasons)


def test_rules_on_images_and_no_images(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looks at images, and --text_only fetches none"):
        parsed(tmp_path, SATURATION, "--text_only")
    assert parsed(tmp_path, DIGITS, "--text_only").catalogue.custom


def test_all_that_rules_read_is_reserved() -> None:
    pairs = measure(pair_batch([("http://a.org/", "a text")]))
    no, corpus = np.zeros(1, np.bool_), CorpusSets(*[None] * 4)  # type: ignore[arg-type]
    names = {*text_rows(pairs, corpus, no, no, no), *COLUMNS, *OBJECTS}
    names |= {"shorter", "longer", "input_hash", "is_stored"}
    of_product = {measure.column for measure in PRODUCT.measures.values()}
    assert names <= INTERNAL_ROWS | of_product | names_of_ours() | {*PRODUCT.reasons}
