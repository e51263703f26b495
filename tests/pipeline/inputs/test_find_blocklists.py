"""Which blocklists a command names."""

import sys
from pathlib import Path

import pytest

from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_blocklists import find_blocklists
from alignset.transforms.blocklists import compiled_list
from tests.support.picture_files import encoded, photograph


def found(*paths: object):
    return find_blocklists(",".join(map(str, paths)), 6, 32)


def test_none_and_some(tmp_path: Path) -> None:
    assert found().lists == ()
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"host:{name[0]}.example\n")
    lists = find_blocklists(f"first={tmp_path}/a.txt,{tmp_path}/b.txt", 5, 30)
    assert [compiled.name for compiled in lists.lists] == ["first", "list-bf227843"]
    assert (lists.min_phash_distance, lists.min_pdq_distance) == (5, 30)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("gone", None, "cannot be read: there is no such file; pass files"),
        ("bad", "example.com\n", "bad, line 1: 'example.com' does not begin with any of host:, "),
        ("empty", "", "has no entry"),
        (
            "domain",
            "domain:a.example",
            "needs publicsuffixlist: pip install 'alignset[blocklists]'",
        ),
        (
            "pdq",
            f"pdq:{'0' * 64}",
            "a pdq: entry of a blocklist needs pdqhash: pip install 'alignset[pdq]'",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line(
    tmp_path: Path, name: str, body: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "publicsuffixlist", None)
    compiled_list.public_suffixes.cache_clear()
    if body is not None:
        (tmp_path / name).write_text(body)
    with pytest.raises(UsageError) as error:
        found(tmp_path / name)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_is_no_list(tmp_path: Path) -> None:
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(UsageError, match="it is a folder, a pipe or a device"):
            found(path)


def test_an_image_is_no_list(tmp_path: Path) -> None:
    path = tmp_path / "me.jpg"
    path.write_bytes(encoded(photograph(1), "JPEG"))
    with pytest.raises(UsageError) as error:
        found(path)
    assert str(error.value) == f"{path} is an image, jpeg: to list it pass --blocklist=image:{path}"


def test_two_of_one_name_and_too_many_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "l.txt").write_text("host:a.example\n")
    with pytest.raises(UsageError, match=r"list-405b5e32, by .*: pass each list once"):
        found(tmp_path / "a/l.txt", tmp_path / "b/l.txt")  # which hold the same
    with pytest.raises(UsageError, match="two blocklists are called one"):
        found(f"one={tmp_path}/a/l.txt", f"one={tmp_path}/b/l.txt")
    with pytest.raises(UsageError, match="takes 64 files; got 65"):
        found(*["x"] * 65)
