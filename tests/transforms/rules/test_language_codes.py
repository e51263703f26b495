from pathlib import Path

import eldc
import pycld2
import pytest
from langdetect.detector_factory import PROFILES_DIRECTORY
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from alignset.transforms.pairs.language_votes import DETECTORS
from alignset.transforms.rules.language_codes import (
    FOUND_BY,
    NUMBERED,
    OF_ELDC,
    PART_OF,
    VOTED,
    WEAK,
    wanted_languages,
    weak_points,
)


def test_the_languages_are_those_of_two_of_the_installed_detectors() -> None:
    assert tuple(eldc.LANGUAGES) == OF_ELDC  # as its model numbers them
    detected = set(pycld2.DETECTED_LANGUAGES)
    known = (
        OF_ELDC,
        [code for name, code in pycld2.LANGUAGES if name in detected],
        LanguageIdentifier.from_model_file(MODEL_FILE).labels,
    )
    sets = [{PART_OF.get(code, code) for code in codes} for codes in known]
    twice = {code for own in sets for code in own if sum(code in other for other in sets) > 1}
    assert tuple(sorted(twice)) == VOTED
    assert {*PART_OF.values(), *WEAK, *WEAK.values()} <= twice
    assert not PART_OF.keys() & twice
    codes = (path.name.partition("-")[0] for path in Path(PROFILES_DIRECTORY).iterdir())
    by_langdetect = {PART_OF.get(code, code) for code in codes}
    assert {"vote": VOTED, "langdetect": tuple(sorted(by_langdetect))} == FOUND_BY
    assert DETECTORS.keys() == FOUND_BY.keys()
    assert len(NUMBERED) < 128  # numbers are written with another bit in a byte


@pytest.mark.parametrize(
    ("flag", "languages", "said"),
    [
        ("", (), ""),
        ("en", ("en",), ""),
        ("all", NUMBERED, "id, bs, nn and yue are ms, hr, no and zh"),
        ("ja, de,ja", ("de", "ja"), ""),
        ("und,en", ("en", "und"), ""),
        ("id,ms", ("ms",), "id is kept as ms"),
        ("gl", ("gl",), "many texts in gl (es) are taken"),
    ],
)
def test_what_a_flag_wants(flag: str, languages: tuple[str, ...], said: str) -> None:
    assert wanted_languages(flag) == languages
    weak = weak_points(flag, languages)
    assert said in weak
    assert bool(weak) == bool(said)
    assert "\n" not in weak
