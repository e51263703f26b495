"""Datasets of a small web, ended by every command that ends or changes one: from each the next."""

import hashlib
import io
import random
import shutil
from itertools import count, product
from pathlib import Path
from typing import NamedTuple

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageOps

from alignset.__main__ import command_of
from alignset.transforms.shards.plan_shards import held_out
from tests.support import golden
from tests.support.page_archives import page_record
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb

LOST = range(24, 28)  # images that are not there before the second try
HELD_OUT = 0.2
LICENCE = "https://l.example/by"
# What stands in the head of a page by its name, and fields of its answer.
HEADS: dict[str, tuple[str, list[str]]] = {
    "a": (f'<link rel="license" href="{LICENCE}">', []),
    **dict.fromkeys("bcd", ("", [])),
    "noai": ('<meta name="robots" content="noai">', []),
    "reserved": ('<meta name="tdm-reservation" content="1">', []),
    "tagged": ("", ["X-Robots-Tag: noai"]),
}
PAGES = len(HEADS) + 1  # of which two have one image
FORBIDDEN, EQUAL = "forbidden word", "the white house in the garden"
PLACEHOLDER = 5  # URLs with the bytes of no image of a host
TAKEN = (5, 6, 7)  # what is listed: kept images; with all their texts
PATIENT = tuple(f"--{kind}timeout_s=120" for kind in ("", "connect_", "idle_"))  # on a busy machine
LISTS = "--blocklist=list.txt={at}/list.txt,hosts.csv={at}/hosts.csv"
ALL = (
    *("--input={at}/pairs.parquet,{at}/pages.warc", "--allow_private_addresses", "--retries=0"),
    *(*PATIENT, "--max_unsafe_score=1", "--min_image_side=90", "--samples_per_shard=8"),
    *("--max_texts_per_image=3", "--columns=uid,similarity,boxes", LISTS),
    *("--eval_images=exam={at}/exam", "--holdout=0.2", "--thumbnails=3"),
    "--vocabulary_size={vocabulary}",
)
TAKE = ("takedown", "{out}", "--blocklist=take.txt={at}/take.txt")
AGAIN = "--retry_failed=all"


class Made(NamedTuple):
    """How a dataset comes about.

    Attributes:
      words: the command; {at} is the folder with all datasets and their input, {out} the dataset.
      of: the dataset in a copy of which the command is given; "" where it makes a new one.
      without: what is taken out of this copy before the command.
      drops: reasons of which the funnel counts some, or the case would prove little.
    """

    words: tuple[str, ...]
    of: str = ""
    without: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()


def curate(*flags: str) -> tuple[str, ...]:
    return ("curate", "--output={out}", *flags)


def grow(name: str, *flags: str, lists: str = LISTS) -> tuple[str, ...]:
    """What another dataset could not fetch is asked for again."""
    return ("grow", f"{{at}}/{name}", "--output={out}", *ALL[1:6], lists, AGAIN, *flags)


KEEP, NEAR = curate(*ALL, "--holdout_copies=keep"), curate(*ALL, "--duplicates=near")
RICH = curate(
    *(flag for flag in ALL if not flag.startswith("--max_unsafe_score")),
    *("--duplicates=exact", "--resize_mode=keep_ratio_largest", "--image_size=120"),
    "--encode_format=webp",
)
DOWNLOADED = ("rejected", "images", "_generated", "report.html")
SETS = {
    "defaults": Made(
        curate("--input={at}/pairs.parquet", ALL[1], *PATIENT, "--min_image_side=90"),
        drops=("fetch_failed",),
    ),
    "all": Made(
        KEEP,
        drops=(
            *("malformed_pair", "wrong_language", "too_few_words", "too_many_words", "opted_out"),
            *("rare_token", "duplicate_pair", "image_with_too_many_texts", "fetch_failed"),
            *("not_an_image", "undecodable", "too_small", "too_elongated", "blocked"),
            "evaluation_overlap",
        ),
    ),
    "clean": Made(curate(*ALL), drops=("duplicate_of_training",)),
    "exact": Made(curate(*ALL, "--duplicates=exact"), drops=("duplicate_image",)),
    "rich": Made(RICH, drops=("duplicate_image", "opted_out", "blocked", "rare_token")),
    "near": Made(NEAR, drops=("duplicate_image",)),
    "similar": Made(
        curate(*ALL, "--keep_most_similar=0.5", "--holdout_copies=keep"), drops=("less_similar",)
    ),
    "blocked forgotten": Made((*KEEP, "--forget_blocked"), drops=("blocked",)),
    "scores": Made(curate(*ALL[:3], "--score_only")),
    "texts": Made(
        curate(ALL[0], "--text_only", "--language=en,de", "--max_images_per_text=2"),
        drops=("wrong_language", "too_few_words", "text_on_too_many_images"),
    ),
    "reported": Made((*KEEP, "--opt_outs=report")),
    "reported, taken": Made(TAKE, "reported", drops=("taken_down",)),
    "all again": Made(grow("all")),
    "near again": Made(grow("near")),
    "all taken": Made(TAKE, "all", drops=("taken_down",)),
    "all forgotten": Made((*TAKE, "--forget_blocked"), "all", drops=("taken_down",)),
    "near taken": Made(TAKE, "near", ("report.html", "funnel.json"), ("taken_down",)),
    "texts taken": Made(TAKE, "texts", drops=("taken_down",)),
    "texts forgotten": Made((*TAKE, "--forget_blocked"), "texts", drops=("taken_down",)),
    "all deduplicated": Made(
        ("deduplicate", "{out}"), "all", ("funnel.json",), ("duplicate_image",)
    ),
    "all near": Made(("deduplicate", "{out}", "--near"), "all", drops=("duplicate_image",)),
    "changed twice": Made(("deduplicate", "{out}"), "all taken", (), ("taken_down",)),
    "changed thrice": Made(
        grow(
            *("changed twice", "--eval_images=exam={at}/exam"),  # its index is another dataset's
            lists=f"{LISTS},take.txt={{at}}/take.txt",
        ),
        drops=("removed_before",),
    ),
    "of another": Made(curate("--input={at}/exact/shards", *ALL[1:8])),
    "of what was dropped": Made(curate("--input={at}/all", *ALL[1:8], LISTS, "--holdout=0.2")),
    "downloaded": Made(TAKE, "all", DOWNLOADED, ("taken_down",)),
    "downloaded, deduplicated": Made(("deduplicate", "{out}"), "downloaded"),
}


class DescribedSets:
    """The datasets of `SETS`, each made in folder `at` when it is first wanted.

    Attributes:
      asked: the paths of images that each command asked for.
      blocked: the detail of each URL that is on a list.
    """

    def __init__(self, web: SmallWeb, at: Path):
        self.web, self.at = web, at
        self.asked: dict[str, list[str]] = {}
        self.vocabulary, self.blocked = _put_input(web, at)

    def find(self, name: str) -> Path:
        """A finished dataset; it is not to be changed."""
        out = self.at / name
        if name not in self.asked:
            shutil.rmtree(out, ignore_errors=True)  # what a test that timed out has left
            for other in SETS:
                inputs = (f"{{at}}/{other}", f"--input={{at}}/{other}")
                if {*inputs, f"{inputs[1]}/shards"} & {*SETS[name].words}:
                    self.find(other)
            self.begin(name, out)
            self.set_web(name)
            begun = len(self.web.requests)
            assert main(*self.words(name, out)) == 0, name
            self.asked[name] = self.web.requests[begun:]
        return out

    def begin(self, name: str, out: Path) -> None:
        """Puts the dataset that a command changes where it is to be changed."""
        if of := SETS[name].of:
            shutil.copytree(self.find(of), out)
        for part in SETS[name].without:
            path = out / part
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    def words(self, name: str, out: Path) -> list[str]:
        """The command that ends a dataset of this name in a folder."""
        named = {"at": self.at, "out": out, "vocabulary": self.vocabulary}
        return [word.format_map(named) for word in SETS[name].words]

    def set_web(self, name: str) -> None:
        """What was lost is there for a second try, and for no first one."""
        for n in LOST:
            self.web.files.pop(f"/{n}", None)
            if AGAIN in SETS[name].words and (n != LOST[-1] or name == "all again"):
                self.web.files[f"/{n}"] = photo(n)


def main(command: str, *words: str) -> int:
    """A command of the project in this process."""
    return command_of(command)(list(words))


def photo(number: int) -> bytes:
    # Photographs of these seeds look like such to the search for near ones: no tone fills them.
    seeds = (700, 701, 703, 707, 710)
    return encoded(photograph(seeds[number] if number < len(seeds) else 300 + number), "JPEG")


def drawing(seed: int) -> PillowImage.Image:
    """A chart: one tone fills it."""
    rng = random.Random(seed)
    made = PillowImage.new("RGB", (200, 150), "white")
    draw = ImageDraw.Draw(made)
    for bar in range(8):
        place = (20 + 20 * bar, 150 - rng.randrange(20, 130), 34 + 20 * bar, 150)
        draw.rectangle(place, (rng.randrange(256), 80, 160))
    return made


def _path(web: SmallWeb, name: str, *, held: bool) -> str:
    """A path that begins so. Which images are held out follows from their URLs, and these from the
    server's port."""
    paths = (f"{name}{n}" for n in count())
    return next(p for p in paths if held_out(pa.array([web.url + p]), HELD_OUT)[0] == held)


def _put_copies(web: SmallWeb) -> None:
    """Serves images that are there several times, to the byte or alike."""
    crowded, photo2 = photograph(731), photograph(703)
    web.files |= {f"/none/{n}": encoded(crowded, "JPEG", quality=95) for n in range(PLACEHOLDER)}
    web.files[_path(web, "/alike", held=False)] = encoded(crowded, "JPEG", quality=30)
    web.files |= {f"/copy/{n}": photo(n) for n in (0, 1, 10, 11, 12)}
    smaller = [photograph(seed).resize((140, 103)) for seed in (703, 707, 710)]
    web.files |= {f"/near/{n}": encoded(image, "PNG") for n, image in enumerate(smaller)}
    framed = ImageOps.expand(photo2, 10, (0, 0, 0))
    web.files["/near/framed"] = encoded(framed, "JPEG", quality=90)
    web.files["/near/worse"] = encoded(photo2, "JPEG", quality=40)
    for seed, quality in product((1, 2), (90, 60)):
        web.files[f"/chart{seed}/{quality}"] = encoded(drawing(seed), "JPEG", quality=quality)


def _put_lists(web: SmallWeb, at: Path) -> dict[str, str]:
    """Writes blocklists with an entry of each kind; returns the detail of each URL."""
    (at / "hosts.csv").write_text("host,why\nlocalhost,asked for it\n")
    web.files |= {f"/{kind}": photo(91 + n) for n, kind in enumerate(("sha256", "md5", "phash"))}
    phash = imagehash.phash(PillowImage.open(io.BytesIO(web.files["/phash"])))
    entries = {
        "/listed": f"url:{web.url}/listed",
        "/14": f"text:{FORBIDDEN.upper()}",
        "/sha256": f"sha256:{hashlib.sha256(web.files['/sha256']).hexdigest()}",
        "/md5": f"md5:{hashlib.md5(web.files['/md5']).hexdigest()}",
        "/phash": f"phash:{phash}",
    }
    longer = f"prefix:{web.url}/3?"  # than any URL
    (at / "list.txt").write_text("\n".join([*entries.values(), longer]))
    of_list = {web.url + path: f"list.txt:{e.partition(':')[0]}" for path, e in entries.items()}
    return of_list | dict.fromkeys(_other_host(web), "hosts.csv:host")


def _other_host(web: SmallWeb) -> list[str]:
    return [f"{web.url.replace('127.0.0.1', 'localhost')}/host/{n}" for n in range(2)]


def _put_input(web: SmallWeb, at: Path) -> tuple[int, dict[str, str]]:
    """Writes the input of all commands; returns how many n-grams are in it more than once, and the
    detail of each URL that is on a blocklist."""
    web.files |= {f"/{n}": photo(n) for n in range(24)}
    web.files |= {
        "/page": b"<html>",
        "/cut": photo(1)[:900],
        "/small": encoded(photograph(1, 90, 90), "JPEG"),
        "/long": encoded(photograph(1, 400, 100), "JPEG"),
        "/noai": photo(30),
        "/listed": photo(31),
        "/exam": golden.evaluation_copy(),
    }
    _put_copies(web)
    blocked = _put_lists(web, at)
    for name, held in (("twice", False), ("twice/", False), ("both", False), ("both/", True)):
        web.files[_path(web, f"/{name}", held=held)] = photo(32 + (name < "c"))
    web.headers["/noai"] = {"X-Robots-Tag": "noai"}
    texts = iter(golden.TEXTS)
    pairs = [(path, next(texts)) for path in web.files]
    pairs += [(f"/{n}", next(texts)) for n in (*LOST, 3, 4, 4, 14)]
    pairs += [(f"/copy/{n}", golden.TEXTS[n]) for n in (0, 10)]  # the texts of their originals
    pairs = [(p, EQUAL if p.startswith("/chart2/") else text) for p, text in pairs]
    pairs.append(("/14", f"a photo of a {FORBIDDEN} in the garden"))
    pairs += [("/5", f"a photo of a {word} in the garden") for word in ("dog", "cat", "car")]
    pairs += [
        *(("/6", "garden"), ("/6", golden.TWENTY_WORDS + " the"), ("/9", ""), pairs[9]),
        *(("/7", "a photo of a zyxwvut dog"), ("/8", "Ein rotes Auto steht vor dem Haus")),
        ("/8", "un chat noir dort sur le canapé de la maison"),
        *((f"/{n}", "the white house in the green park") for n in range(15, 19)),
    ]
    others = _other_host(web)
    numbers = range(len(pairs) + len(others))
    table = {
        "url": [*(web.url + path for path, _ in pairs), *others],
        "caption": [*(text for _, text in pairs), *golden.TEXTS[-2:]],
        "uid": [f"{n * 7919:032x}" for n in numbers],
        "similarity": [n * 37 % 100 / 100 for n in numbers],
        "boxes": [[[n / 2], []] if n % 2 else None for n in numbers],
    }
    pq.write_table(pa.table(table), at / "pairs.parquet")
    pages: list[bytes] = []
    of_pages: list[str] = []
    for n, (name, (head, field)) in enumerate(HEADS.items()):
        web.files[f"/of_page/{n}"] = photo(40 + n)
        image = f'<img src="{web.url}/of_page/{n}" alt="{(text := next(texts))}">'
        # Which of two pages is named must not depend on their order.
        names = (name, "again") if name == "b" else (name,)
        html = f"<head>{head}</head>{image}"
        pages += [page_record(f"http://page.example/{of}", html, *field) for of in names]
        of_pages += [text] * len(names)
    (at / "pages.warc").write_bytes(b"".join(pages))
    (at / "exam").mkdir()
    (at / "exam" / "1.png").write_bytes(golden.evaluation_image())
    taken = [f"url:{web.url}/{n}" for n in TAKEN]
    (at / "take.txt").write_text("\n".join([*taken, f"url:{web.url}/noai", f"prefix:{web.url}/2"]))
    texts_read = [*table["caption"], *of_pages]
    return golden.vocabulary_size(golden.Fate("", text) for text in texts_read), blocked
