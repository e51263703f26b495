"""A result that can't be said."""

import pytest

from alignset.train.errors import SettingsError
from alignset.train.evaluate.written_json import as_json


def test_what_is_not_finite_is_no_result():
    assert as_json({"a": [1, None, "NaN"]}) == '{"a": [1, null, "NaN"]}'
    for number in (float("nan"), float("inf")):
        with pytest.raises(SettingsError, match="is not defined"):
            as_json({"a": [number]})
