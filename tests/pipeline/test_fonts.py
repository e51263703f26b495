"""Letters that no font of a machine has, as a fontconfig of the test's own says."""

from pathlib import Path

import pytest

from alignset.pipeline.fonts import missing_fonts

HAS_CYRILLIC = """#!/bin/sh
case "$2" in :|:charset=4??) printf . ;; esac
"""


@pytest.mark.parametrize(
    ("texts", "letters", "packages"),
    [
        (["una casa pequeña", "Mały dom", "Старый дом", "№ 5 ☂"], "", ""),
        (["東京と京都の写真"], "京, と", "fonts-noto-cjk"),
        (["บ้าน", "집", "\ud800\0"], "บ, 집", "fonts-noto-cjk and fonts-noto-core"),
    ],
)
def test_letters_without_a_font_are_named_with_a_package(
    texts: list[str], letters: str, packages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert missing_fonts(texts) == ""  # no fontconfig
    (tmp_path / "fc-list").write_text(HAS_CYRILLIC)
    (tmp_path / "fc-list").chmod(0o755)
    said = missing_fonts(texts)
    line = f"no font of this machine has {letters}: to see more than boxes here, install {packages}"
    assert said == (line if letters else "")
    (tmp_path / "fc-list").write_text("#!/bin/sh\n")  # no font at all
    assert missing_fonts(texts) == ""
