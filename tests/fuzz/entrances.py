"""Where the bytes of others come in: by format, the functions and commands that they reach, and
what must hold behind each."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PillowImage

from alignset import beam_runner
from alignset.pipeline import command_line, commands
from alignset.pipeline.errors import UsageError
from alignset.pipeline.inputs.find_inputs import find_files, find_splits
from alignset.pipeline.inputs.readers import read_split
from alignset.pipeline.settings import Job
from alignset.train.data.images import (
    UPLOAD_PX,
    RefusedPicture,
    decode_image,
    decode_square,
    decode_upload,
)
from alignset.transforms.blocklists.blocklists import Blocklists
from alignset.transforms.blocklists.compiled_list import ListError, compile_list
from alignset.transforms.images.decode import displayed_picture, open_picture, rgb_pixels
from alignset.transforms.images.examine import Image, Unusable, examine
from alignset.transforms.images.file_formats import FileLook
from alignset.transforms.images.resize import Encoder, plain_form
from alignset.transforms.images.resize_settings import EncodingError, ResizeSettings
from alignset.transforms.images.thumbnail import SIDE_PX, thumbnail
from alignset.transforms.opt_outs.file_opt_outs import file_opt_outs
from alignset.transforms.opt_outs.opt_out_settings import OptOutSettings
from alignset.transforms.pages.page_counts import PageTally
from alignset.transforms.pages.page_files import PageFiles
from alignset.transforms.pages.parse_pages import pairs_of, rows_of
from alignset.transforms.safety.classifier import model_pixels
from alignset.transforms.safety.model_files import OPEN_NSFW
from alignset.transforms.storage.broken_files import BrokenInputError
from alignset.transforms.storage.tar_members import tar_members
from tests.fuzz import counts, pages, shards, texts, urls
from tests.support import small_sets
from tests.support.command import funnel, kept, rejected, run
from tests.support.hostile_tars import tar_of
from tests.support.train_shards import colour_files

ALL = ("--language=", "--min_words=1", "--max_words=100000000", "--max_images_per_text=1000000")
ALL_IMAGES = ("--min_image_side=0", "--max_image_aspect=1000000", "--workers=1")
URLS = [
    url.encode("utf-8", "replace").decode()
    for piece in urls.PIECES
    for url in (f"http://{piece}/b", f"https://a.example/{piece}")
]


class Entrance(NamedTuple):
    """Fields:
    enter: gets a file's bytes and its path, alone in a folder; raises where something is wrong.
    every: one of so many files comes to it, since it takes long.
    cpu_s: that it may take, beside 2 s a MB.
    """

    name: str
    enter: Callable[[bytes, Path], object]
    every: int = 1
    cpu_s: float = 10.0


# Pictures


def look_at(body: bytes, path: Path) -> Image | Unusable:
    """The same whatever is asked for beside; and Pillow sees a JPEG of the same size."""
    verdict = examine(body)
    more = examine(FileLook(body), keep_grey=True, keep_picture=True)
    assert verdict == more, (verdict, more)
    if isinstance(verdict, Image) and verdict.format == "jpeg":
        whole = displayed_picture(open_picture(body, "jpeg"))
        assert sorted(whole.size) == sorted((verdict.width, verdict.height))
    return verdict


def show(body: bytes, path: Path) -> None:
    """As reports, rules and models see it."""
    image = examine(body, keep_picture=True)
    if isinstance(image, Unusable):
        return
    assert max(PillowImage.open(io.BytesIO(thumbnail(body))).size) <= SIDE_PX
    for made in (rgb_pixels(image.picture), model_pixels(image.picture, OPEN_NSFW.wanted)):
        assert made.dtype == np.uint8
        assert made.shape[2] == 3


def keep(body: bytes, path: Path) -> None:
    """As a shard keeps it: a file that Pillow opens, of the size that is said."""
    image = examine(body, keep_picture=True)
    if isinstance(image, Unusable):
        return
    plain, known = plain_form(body, image)
    for settings in (ResizeSettings(), ResizeSettings(resize_mode="border", image_size=64)):
        try:
            stored, _, width, height = Encoder(settings)(plain, known)
        except EncodingError:
            continue
        picture = PillowImage.open(io.BytesIO(stored))
        picture.load()
        assert picture.size == (width, height), (picture.size, width, height)


def find_terms(body: bytes, path: Path) -> None:
    found = file_opt_outs(FileLook(body), OptOutSettings())
    json.dumps(found)  # texts, and no halves of letters
    assert len("".join(map(str, found))) < 10_000


def train_on(body: bytes, path: Path) -> None:
    for decode in (lambda data: decode_square(data, 72), lambda data: decode_image(data)):
        try:
            made = decode(body)
        except MemoryError:
            raise
        except Exception:  # as each says
            continue
        assert made.shape == (72, 72, 3) if isinstance(made, np.ndarray) else made.mode == "RGB"


def upload(body: bytes, path: Path) -> None:
    try:
        picture = decode_upload(body)
    except RefusedPicture:
        return
    assert max(picture.size) <= UPLOAD_PX


def curate_picture(body: bytes, path: Path) -> None:
    """With two others in a shard, whose fate is the same."""
    tar = tar_of(colour_files(0, 2) | {"b.jpg": body, "b.txt": b"a hostile picture"})
    curate_images(tar, path.with_suffix(".tar"))


# Commands


def end_well(command: Callable[[Sequence[str]], int], *args: str) -> None:
    """A command that ends in 0, in one line, or by a file that is broken."""
    failures: list[Exception] = []
    note = lambda _, error, *__: failures.append(error) or 1  # noqa: E731
    with patch.object(command_line, "print_failure", note):
        try:
            status = command(args)
        except SystemExit as end:
            status = end.code
    if failures and not isinstance(failures[0], BrokenInputError):
        raise failures[0]
    assert status in (0, 1, 2)


def curate(path: Path, *flags: str) -> int | None:
    """Every row is kept or rejected: how many there are, or None where the input is refused."""
    output, failures = path.parent / "set", list[BaseException]()
    shutil.rmtree(output, ignore_errors=True)
    last_line = beam_runner.plain_reason

    def note(error: BaseException) -> str:
        failures.append(error)
        return last_line(error)

    with patch.object(beam_runner, "plain_reason", note):
        ended = run(path, output, *ALL, *flags)
    if failures and not isinstance(failures[0], BrokenInputError):
        raise failures[0]
    assert "Traceback" not in ended.err, ended.err
    if failures or ended.status == 2:
        assert ended.err.count("\n") < 30, ended.err
        return None
    rows = len(kept(output)) + len(rejected(output))
    seen = funnel(output)["steps"][0]["seen"]
    assert rows == seen, (rows, seen)
    return rows


def curate_texts(body: bytes, path: Path) -> None:
    rows = curate(path, "--text_only")
    if rows is not None and path.suffix == ".parquet":
        try:
            expected = pq.ParquetFile(pa.BufferReader(body), page_checksum_verification=True).read()
        except Exception:  # pyarrow raises many kinds
            return
        assert rows == len(expected), (rows, len(expected))


def curate_images(body: bytes, path: Path) -> None:
    path.write_bytes(body)
    curate(path, *ALL_IMAGES)


def read_table(body: bytes, path: Path) -> None:
    """The same rows, however many at once; or a broken file."""
    job = Job(input=str(path), output=f"{path}.set", text_only=True)
    try:
        splits = find_splits(job, find_files(job))
    except UsageError:
        return
    rows = [
        [row for s in splits for b in read_split(s, n, skip_broken=True) for row in b.to_pylist()]
        for n in (7, 1000)
    ]
    assert rows[0] == rows[1]


def ask_list(body: bytes, path: Path) -> None:
    """A blocklist that anybody wrote: refused in a line, or asked."""
    try:
        compiled = compile_list(str(path), str(path.parent))
    except ListError as error:
        said = str(error)
        assert str(path) in said
        assert len(said) < 800, said
        assert "\n" not in said
        return
    lists = Blocklists((compiled,), 3, 31)
    column = pa.array(URLS, pa.string())
    details = lists.match_pairs(column, column, np.arange(len(URLS), dtype=np.uint64)).to_pylist()
    kinds = {f"{compiled.name}:{kind}" for kind in compiled.entries}
    assert {*details, lists.match_file(bytes(32), b"body")} <= {None, *kinds}
    for url, detail in zip(URLS, details, strict=True):
        assert lists.match_url(url) is None or detail is not None


def read_pages(body: bytes, path: Path) -> None:
    """Pairs, and pages that are broken; at most one for some bytes of the file."""
    part = PageFiles(path.name.split(".")[1], ((str(path), "http://a.example/b/"),))
    for batch in rows_of(pairs_of(part, PageTally())):
        batch.validate(full=True)


def of_set(name: str, hostile: str, folder: str, *flags: str) -> Callable[[bytes, Path], None]:
    """A command on a small dataset, of which one file is the hostile one; or on its folder of
    shards, as on another tool's."""

    def enter(body: bytes, path: Path) -> None:
        dataset = path.parent / "dataset"
        small_sets.put_shard(str(dataset), 0, 4)
        small_sets.put_rejected(str(dataset), "images-00000", [("too_small", None)] * 3)
        (dataset / hostile).write_bytes(body)
        (path.parent / "list.txt").write_text("host:host1.example\ntext:caption 2 of shard 0\n")
        places = {"LIST": path.parent / "list.txt", "OUT": path.parent}
        words = [flag.format(**places) for flag in flags]
        end_well(getattr(commands, name), str(dataset / folder), *words)

    return enter


def read_members(body: bytes, path: Path) -> None:
    shards.check_members(body, path)


def measure_evaluation_images(body: bytes, path: Path) -> None:
    members, _ = shards.seen_by(tar_members(io.BytesIO(body)))
    shards.check_evaluation(members, path)


MADE = {
    **{"soup": pages.check_soup, "archives": pages.check_archives},
    **{"texts": texts.check, "urls": urls.check, "counts": counts.check},
}


def check_made(body: bytes, path: Path) -> None:
    """A case that a module of this package makes from these words, and checks itself."""
    MADE[body.decode().split()[1]](Random(body.decode()))


def on_sets(hostile: str, folder: str) -> tuple[Entrance, ...]:
    """The commands, of a dataset whose file is the hostile one."""
    look = ("--output={OUT}/look.html", *["--reason=dropped"] * hostile.startswith("rejected"))
    flags = {
        **{"look": look, "report": ("--output={OUT}/report.html",)},
        **({} if folder else {"takedown": ("--blocklist={LIST}", "--dry_run")}),
    }
    return tuple(
        Entrance(
            f"{name} {hostile} in {folder or 'a dataset'}", of_set(name, hostile, folder, *of), 20
        )
        for name, of in flags.items()
    )


# Headers may say 89 million pixels, which take 1 to 3 s in each of several decodes.
PICTURES = (
    Entrance("examine", look_at, cpu_s=30.0),
    Entrance("show", show, cpu_s=30.0),
    Entrance("keep", keep, cpu_s=30.0),
    Entrance("opt-outs", find_terms),
    Entrance("train", train_on, cpu_s=30.0),
    Entrance("upload", upload),
    Entrance("curate", curate_picture, 40, cpu_s=30.0),
)
LIST = Entrance("list", ask_list)
TABLES = (Entrance("read", read_table), Entrance("curate", curate_texts, 10), LIST)
PAGES = (Entrance("find pairs", read_pages), Entrance("curate", curate_texts, 20))
ENTRANCES: dict[str, tuple[Entrance, ...]] = {
    **dict.fromkeys(("avif", "webp", "png", "gif", "jpeg", "tiff", "bmp"), PICTURES),
    "tar": (
        Entrance("members", read_members),
        Entrance("read", lambda body, path: shards.check_reader(body, path)),
        Entrance("train", lambda body, path: shards.check_trainer(path)),
        Entrance("evaluation images", measure_evaluation_images),
        Entrance("curate", curate_images, 20),
        *on_sets("shards/00000.tar", "shards"),
        *on_sets("shards/00000.tar", ""),
    ),
    "parquet": (
        *TABLES,
        *on_sets("shards/00000.parquet", "shards"),
        *on_sets("shards/00000.parquet", ""),
        *on_sets("rejected/images-00000.parquet", ""),
    ),
    **dict.fromkeys(("csv", "jsonl"), TABLES),
    "txt": (LIST,),
    **dict.fromkeys(("warc", "wat", "html"), PAGES),
    "made": (Entrance("check", check_made),),
}
