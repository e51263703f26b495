"""The command that looks at a dataset."""

import io
import json
import shlex
from pathlib import Path
from typing import Any

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from playwright.sync_api import Browser

from alignset.pipeline import look as shown_pairs
from alignset.pipeline.commands import look as main
from alignset.pipeline.commands import takedown
from tests.support.command import succeed
from tests.support.golden import FLAGS
from tests.support.golden_run import Golden
from tests.support.hostile_tars import write_tar as put_tar
from tests.support.memory_files import read
from tests.support.picture_files import encoded, photograph
from tests.support.small_sets import put, put_funnel, put_rejected, put_shard, put_table


@pytest.fixture
def look(folder: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch):
    """Looks at the set in `folder`: the status, what was printed, what was said."""
    monkeypatch.chdir(tmp_path)

    def command(*flags: str) -> tuple[int, str, str]:
        status = main([folder, *flags], "alignset look")
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


def test_kept_pairs_as_a_table_and_a_page(folder: str, look, tmp_path: Path):
    own = [put_shard(folder, number, 12) for number in (0, 1)]
    put_shard(folder, 2, 3, finished=False)
    assert look()[1].splitlines()[1] == "20 kept pairs, from 2 of 2 shards, the run has not ended"
    put_funnel(folder, 24, {"too_small": 2}, {})
    status, out, err = look("--n=10")
    assert (status, err) == (0, "the page is in look.html\n")
    title, subtitle, empty, header, *rows = out.splitlines()
    assert (title, empty) == (folder[: len(title)], "")
    assert subtitle == "10 of 24 kept pairs, from 2 of 2 shards"
    assert header.split() == ["key", "size", "host", "caption"]
    assert len(rows) == 10
    shown = {row.split()[0] for row in rows}
    assert sum(len(shown & {*keys}) for keys in own) == 10
    assert min(len(shown & {*keys}) for keys in own) > 0  # of all shards
    first = (tmp_path / "look.html").read_bytes()
    assert first.count(b'src="data:image/jpeg;base64,') == 10
    assert look("--n=10")[1] == out
    assert (tmp_path / "look.html").read_bytes() == first
    put(f"{folder}/shards/00000.tar", b"")
    assert look("--n=24", f"--output={folder}/look/a.html")[0] == 0
    page = read(f"{folder}/look/a.html").decode()
    assert (page.count("data:image/jpeg"), page.count("not found in its shard")) == (12, 12)
    put(f"{folder}/shards/00000.parquet", b"no parquet")
    status, out, err = look()
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("alignset look: failed: ")


@pytest.mark.parametrize("ended", [True, False])
def test_dropped_pairs(folder: str, look, ended: bool):
    put_rejected(folder, "text-00000", [("rare_token", None)])
    hint = "has no kept pairs; --reason=dropped shows dropped ones\n"
    assert look()[::2] == (1, f"alignset look: {folder} {hint}")
    put_rejected(folder, "text-00000", [])
    assert look("--reason=dropped")[0] == 1
    assert "has no pairs dropped for rare_token\n" in look("--reason=rare_token")[2]
    put_shard(folder, 0, 1)
    whys = [("fetch_failed", "dns"), ("fetch_failed", "timeout"), ("too_small", None)]
    put_rejected(folder, "images-00000", whys * 2)
    put_rejected(folder, "text-00000", [("rare_token", None)])
    put_rejected(folder, "copy", [("too_small", None)])  # by hand: no part of the dataset
    if ended:
        counts = {"fetch_failed": 4, "too_small": 2, "rare_token": 1}
        put_funnel(folder, 1, counts, {"dns": 2})
    for reason, of, subtitle, rows in (
        ("too_small", "2", "pairs dropped for too_small, from 1 of 1 file of dropped pairs", 2),
        ("fetch_failed:dns", "", "pairs dropped for fetch_failed: dns, from 1 of 1 file", 2),
        ("dropped", "7", "dropped pairs, from 2 of 2 files of dropped pairs", 7),
    ):
        status, out, _ = look(f"--reason={reason}")
        assert status == 0
        of = f" of {of}" if of and ended else ""
        assert out.splitlines()[1].startswith(f"{rows}{of} {subtitle}")
        assert out.splitlines()[3].split()[:3] == ["key", "dropped", "for"]
        assert len(out.splitlines()) == 4 + rows
    there = "fetch_failed (4), too_small (2), rare_token (1)"
    for reason, said in (
        ("tiny", f"for tiny; there are {there}\n"),
        ("fetch_failed:nix\x1b", "for fetch_failed: nix\\x1b; there are dns (2), timeout (2)\n"),
    ):
        expected = f"alignset look: there are no pairs dropped {said}"
        assert look(f"--reason={reason}") == (2, "", expected)


@pytest.mark.parametrize(
    "flag", ["--n=0", "--n=201", "--n=x", "--output=a.png", "--outp=a.html", "--nix", "more"]
)
def test_wrong_flags_are_one_line(look, capsys: pytest.CaptureFixture, flag: str):
    with pytest.raises(SystemExit) as ended:
        look(flag)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("alignset look: ")
    assert said.count("\n") == 1


def test_evaluation_images_are_read_where_a_user_names_them(
    plain: Golden, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A manifest may be anybody's, and name any file or address."""
    monkeypatch.chdir(tmp_path)
    opened = list[str]()
    monkeypatch.setattr(shown_pairs, "find_images", lambda path, _names: opened.append(path) or {})
    row = {"key": "0" * 16, "url": "http://h/a", "reason": "evaluation_overlap", "thumbnail": b"x"}
    row |= {"evaluation_set": "exam", "evaluation_image": "1.png", "evaluation_distance": 0.1}
    (tmp_path / "eval").mkdir()
    put(f"{tmp_path}/eval/1.png", b"x")
    put_shard(f"{tmp_path}/set", 0, 1)
    put_table(f"{tmp_path}/set/rejected/images-00000.parquet", pa.Table.from_pylist([row]))
    manifest = json.loads((plain.output / "manifest.json").read_text())
    manifest["evaluation"] = [{"name": "exam", "path": "http://10.0.0.1/1.png", "bytes": 1}]
    put(f"{tmp_path}/set/manifest.json", json.dumps(manifest).encode())
    command = ["set", "--reason=evaluation_overlap"]
    assert main(command) == 0
    assert opened == []
    assert main([*command, "--eval_images=exam=eval"]) == 0
    assert opened == ["eval/1.png"]
    assert main([*command, "--eval_images=exam=nowhere"]) == 2
    for other in (["--reason=too_small"], ["--blocklist=a"], []):
        with pytest.raises(SystemExit):
            main(["set", *other, "--eval_images=exam=eval"])


PROBE = "document.documentElement.dataset.hacked = 'yes'"
HOSTILE = (
    f"</script><script>{PROBE}</script>",
    f'<img src="x" onerror="{PROBE}">',
    "\u202egnp.exe mirrored, and {{ 7 * 7 }}",
    "قطة على سجادة " + "h\u0301\u0302\u0303\u0304" * 50 + "x" * 999,
)


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1100, "light")])
def test_hostile_copies_beside_their_originals_in_a_browser(
    browser: Browser, tmp_path: Path, monkeypatch, width: int, scheme: Any
):
    """Shows copies of evaluation images, one of them deleted, and copies of kept images."""
    monkeypatch.chdir(tmp_path)
    kept = put_shard("set", 0, 4)
    Path("eval").mkdir()
    rows = [
        {"key": f"{n:016x}", "url": f"http://{text}/{n}", "caption": text, "detail": None}
        | {"reason": "evaluation_overlap", "thumbnail": encoded(photograph(n, 90, 60), "JPEG")}
        | {"evaluation_set": "exam", "evaluation_image": f"{n}.png", "evaluation_distance": 0.1234}
        for n, text in enumerate(HOSTILE)
    ]
    for n in range(3):
        put(f"eval/{n}.png", encoded(photograph(n, 300, 200), "PNG"))
    again = [
        row | {"key": f"{n + 9:016x}", "reason": "duplicate_image", "detail": kept[n]}
        for n, row in enumerate(rows)
    ]
    again[0]["thumbnail"] = None
    put_table("set/rejected/images-00000.parquet", pa.Table.from_pylist(rows + again))
    flags = {"evaluation_overlap": ["--eval_images=exam=eval"], "duplicate_image": []}
    for reason, more in flags.items():
        assert main(["set", f"--reason={reason}", *more, f"--output={reason}.html"]) == 0
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said, asked = list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    for reason, labels, images in (
        ("evaluation_overlap", {"dropped": 4, "evaluation image": 4}, 7),
        ("duplicate_image", {"dropped": 3, "kept": 4}, 7),
    ):
        page.goto((tmp_path / f"{reason}.html").as_uri())
        assert page.evaluate("document.documentElement.dataset.hacked") is None
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.locator(".card").count() == len(HOSTILE)
        found = [of.inner_text() for of in page.locator(".label").all()]
        assert {label: found.count(label) for label in found} == labels
        assert page.locator("img").count() == images
        assert all(page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth > 0)"))
        shown = page.locator("body").inner_text()
        assert HOSTILE[0] in shown
        assert ("copy of exam/3.png, at distance 0.123" in shown) == ("kept" not in labels)
        assert "\u202e" not in page.content()
    assert said == []
    assert [url for url in asked if not url.startswith(("data:image/jpeg", "file:"))] == []
    page.close()


def shown_captions(
    out: Path, blocklist: Path, *flags: str, capsys: pytest.CaptureFixture
) -> set[str]:
    """The captions that a look shows, by the command that a dry run of a takedown prints."""
    assert takedown([str(out), f"--blocklist={blocklist}", "--dry_run", *flags], "takedown") == 0
    told, _, command = capsys.readouterr().out.partition("to see them: ")
    words = shlex.split(command)
    assert words[0] == "look"
    assert main([*words[1:], f"--output={out.parent / 'look.html'}"]) == 0
    rows = capsys.readouterr().out.splitlines()[4:]
    captions = {" ".join(row.split()[-3:]) for row in rows}
    assert f"{len(captions)} pair" in told
    return captions


def test_listed_pairs_of_texts_and_of_images(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    files, captions = {}, [f"a boat {word}" for word in ("one", "two", "three")]
    rows = [{"url": f"http://h.org/{n}", "caption": text} for n, text in enumerate(captions)]
    for n, row in enumerate(rows):
        files[f"{n}.jpg"] = encoded(photograph(n), "JPEG")
        files[f"{n}.json"] = json.dumps(row).encode()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    put_tar(tmp_path / "a.tar", files)
    succeed(tmp_path / "pairs.parquet", tmp_path / "texts", "--text_only", "--language=")
    succeed(tmp_path / "a.tar", tmp_path / "set", *FLAGS, "--language=")
    blocklist = tmp_path / "a list.txt"
    blocklist.write_text("url:http://h.org/0\ntext:boat three\n")
    for name in ("texts", "set"):
        found = shown_captions(tmp_path / name, blocklist, capsys=capsys)
        assert found == {captions[0], captions[2]}
    phash = imagehash.phash(Image.open(io.BytesIO(files["1.jpg"])))
    phash.hash[:2] = ~phash.hash[:2]  # 16 bits
    blocklist.write_text(f"phash:{phash}\n")
    flags = ("--min_blocked_phash_distance=17",)
    assert captions[1] in shown_captions(tmp_path / "set", blocklist, *flags, capsys=capsys)
    assert main([str(tmp_path / "set"), f"--blocklist={blocklist}"]) == 1
    with pytest.raises(SystemExit):
        main([str(tmp_path / "set"), *flags])
