from pathlib import Path

import eldc
from langdetect.detector_factory import PROFILES_DIRECTORY

from alignset.transforms.pairs.languages import LANGUAGES, OF_ELDC, OF_LANGDETECT


def test_the_languages_are_those_of_the_installed_detectors() -> None:
    profiles = {path.name for path in Path(PROFILES_DIRECTORY).iterdir()}
    assert tuple(eldc.LANGUAGES) == OF_ELDC  # as its model numbers them
    assert {name.partition("-")[0] for name in profiles} == OF_LANGDETECT
    assert {name for name in profiles if "-" in name} == {"zh-cn", "zh-tw"}


def test_the_languages_are_iso_codes_of_both() -> None:
    assert len(LANGUAGES) == 67
    assert {"en", "zh", "eu", "id", "no"} < set(LANGUAGES)
    assert not {"zh-cn", "zh-tw", "und", ""} & set(LANGUAGES)
