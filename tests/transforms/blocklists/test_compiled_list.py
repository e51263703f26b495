"""A list as arrays in one file."""

import hashlib
from pathlib import Path

import pytest

from alignset.transforms.blocklists.compiled_list import compile_list
from alignset.transforms.blocklists.read_list import ListError
from tests.support.memory_files import FILES

LINES = """host:b.example
host:a.example
host:B.example
prefix:a.example/x
prefix:a.example/x/y
md5:00000000000000000000000000000000
md5:ff000000000000000000000000000000
phash:0000000000000007
pdq:{pdq}
text:two words
""".format(pdq="0f" * 32)


@pytest.mark.parametrize("stored", [False, True])
def test_arrays_are_sorted_and_without_repeats(tmp_path: Path, stored: bool) -> None:
    path = "mem://bucket/take.txt" if stored else str(tmp_path / "take.txt")
    if stored:
        FILES["mem://bucket/take.txt"] = LINES.encode()
    else:
        Path(path).write_text(LINES)
    compiled = compile_list(path, str(tmp_path / "arrays"))
    assert compiled.name == "take.txt"
    assert compiled.sha256 == hashlib.sha256(LINES.encode()).hexdigest()
    counts = {"host": 3, "prefix": 2, "text": 1, "md5": 2, "phash": 1, "pdq": 1}
    assert compiled.entries == counts
    assert compiled.longest_phrase == 2
    hosts = compiled.array("host")
    assert len(hosts) == 2
    assert hosts[0] < hosts[1]
    assert bytes(compiled.array("prefix")) == b"a.example/x"
    assert compiled.array("md5").tolist() == [b"", b"\xff"]  # NULs at an end are not shown
    assert compiled.array("phash").tolist() == [[7]]
    assert compiled.array("pdq").tolist() == [[0x0F0F0F0F0F0F0F0F] * 4]
    with pytest.raises(ValueError, match="read-only"):
        hosts[0] = 1


@pytest.mark.parametrize("body", ["", "# nothing yet\n\n"])
def test_a_list_without_entries_is_refused(tmp_path: Path, body: str) -> None:
    (tmp_path / "l").write_text(body)
    with pytest.raises(ListError, match="has no entry"):
        compile_list(str(tmp_path / "l"), str(tmp_path))
