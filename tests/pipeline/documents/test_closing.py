"""The closing documents: counts that do not fit are found before anything is written."""

from dataclasses import replace

import pytest

from alignset.pipeline.documents.closing import checked_steps
from alignset.pipeline.runs.work_folder import TextSummary
from alignset.transforms.corpus.corpus_documents import HashFile, VocabularySummary
from alignset.transforms.rules.catalogue import Catalogue
from alignset.transforms.workers.counts import Counts


def test_an_input_that_changed_between_its_readings_is_found() -> None:
    text = TextSummary(3, Counts(3, 3), VocabularySummary(), HashFile("v", 0, ""))
    assert checked_steps(text, None, Catalogue())[-1].kept == 3
    with pytest.raises(RuntimeError, match="did the input change"):
        checked_steps(replace(text, rows_read=4), None, Catalogue())
    with pytest.raises(RuntimeError, match="other pairs than the 3 that are kept"):
        checked_steps(text, Counts(2, 2), Catalogue())
