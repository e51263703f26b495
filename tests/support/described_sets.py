"""Datasets of a small web, ended by every command that ends or changes one: from each the next."""

import importlib
import shutil
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from alignset.__main__ import COMMANDS
from alignset.transforms.pairs.hold_out import held_out
from tests.support import golden
from tests.support.page_archives import page_record
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb

LOST = range(24, 28)  # images that are not there before the second try
HELD_OUT = 0.2
TAKEN = (5, 6, 7)  # what is listed: kept images; with all their texts
PATIENT = tuple(f"--{kind}timeout_s=120" for kind in ("", "connect_", "idle_"))  # on a busy machine
ALL = (
    *("--input={at}/pairs.parquet,{at}/pages.warc", "--allow_private_addresses", "--retries=0"),
    *(*PATIENT, "--max_unsafe_score=1", "--min_image_side=90", "--samples_per_shard=8"),
    *("--max_texts_per_image=3", "--columns=uid,similarity", "--blocklist=list.txt={at}/list.txt"),
    *(
        "--eval_images=exam={at}/exam",
        "--holdout=0.2",
        "--thumbnails=3",
        "--vocabulary_size={vocabulary}",
    ),
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


KEEP, NEAR = curate(*ALL, "--holdout_copies=keep"), curate(*ALL, "--duplicates=near")
DOWNLOADED = ("rejected", "responses", "_generated", "report.html")
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
    "near": Made(NEAR, drops=("duplicate_image",)),
    "similar": Made(
        curate(*ALL, "--keep_most_similar=0.5", "--holdout_copies=keep"), drops=("less_similar",)
    ),
    "scores": Made(curate(*ALL[:3], "--score_only")),
    "texts": Made(
        curate(ALL[0], "--text_only", "--language=en,de", "--max_images_per_text=2"),
        drops=("wrong_language", "too_few_words", "text_on_too_many_images"),
    ),
    "all again": Made((*KEEP, AGAIN), "all"),
    "near again": Made((*NEAR, AGAIN), "near", ("funnel.json",)),
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
    "changed thrice": Made((*KEEP, AGAIN), "changed twice", (), ("taken_down",)),
    "of another": Made(curate("--input={at}/exact", *ALL[1:8])),
    "of what was dropped": Made(
        curate("--input={at}/all", *ALL[1:8], "--also_rejected=all", "--holdout=0.2")
    ),
    "downloaded": Made(TAKE, "all", DOWNLOADED, ("taken_down",)),
    "downloaded, deduplicated": Made(("deduplicate", "{out}"), "downloaded"),
}


class DescribedSets:
    """The datasets of `SETS`, each made in folder `at` when it is first wanted."""

    def __init__(self, web: SmallWeb, at: Path):
        self.web, self.at = web, at
        self.vocabulary = _put_input(web, at)

    def find(self, name: str) -> Path:
        """A finished dataset; it is not to be changed."""
        out = self.at / name
        if not out.exists():
            for other in ("exact", "all"):
                if f"--input={{at}}/{other}" in SETS[name].words:
                    self.find(other)
            self.begin(name, out)
            self.set_web(name)
            assert main(*self.words(name, out)) == 0, name
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
                self.web.files[f"/{n}"] = _photo(n)


def main(command: str, *words: str) -> int:
    """A command of the project in this process."""
    return importlib.import_module(f"alignset.{COMMANDS[command][0]}").main(list(words))


def _photo(number: int) -> bytes:
    # Photographs of these seeds look like such to the search for near ones: no tone fills them.
    seeds = (700, 701, 703, 707, 710)
    return encoded(photograph(seeds[number] if number < len(seeds) else 300 + number), "JPEG")


def _put_input(web: SmallWeb, at: Path) -> int:
    """Writes the input of all commands; returns how many n-grams are in it more than once."""
    web.files |= {f"/{n}": _photo(n) for n in range(24)}
    web.files |= {f"/copy/{n}": _photo(n) for n in (0, 1, 10, 11, 12)}
    smaller = [photograph(seed).resize((140, 103)) for seed in (703, 707, 710)]
    web.files |= {f"/near/{n}": encoded(image, "PNG") for n, image in enumerate(smaller)}
    web.files |= {
        "/page": b"<html>",
        "/cut": _photo(1)[:900],
        "/small": encoded(photograph(1, 90, 90), "JPEG"),
        "/long": encoded(photograph(1, 400, 100), "JPEG"),
        "/noai": _photo(30),
        "/listed": _photo(31),
        "/exam": golden.evaluation_copy(),
    }
    for name, held in (("twice", False), ("twice/", False), ("both", False), ("both/", True)):
        # Which images are held out follows from their URLs, and these from the server's port.
        paths = (f"/{name}{n}" for n in count())
        path = next(p for p in paths if held_out(pa.array([web.url + p]), HELD_OUT)[0] == held)
        web.files[path] = _photo(32 + (name < "c"))
    web.headers["/noai"] = {"X-Robots-Tag": "noai"}
    texts = iter(golden.TEXTS)
    pairs = [(path, next(texts)) for path in web.files]
    pairs += [(f"/{n}", next(texts)) for n in (*LOST, 3, 4, 4, 14)]
    pairs += [(f"/copy/{n}", golden.TEXTS[n]) for n in (0, 10)]  # the texts of their originals
    pairs += [("/5", f"a photo of a {word} in the garden") for word in ("dog", "cat", "car")]
    pairs += [
        *(
            ("/6", "garden"),
            ("/6", golden.TWENTY_WORDS + " the"),
            ("/7", "a photo of a zyxwvut dog"),
        ),
        *(("/8", "Ein rotes Auto steht vor dem Haus"), pairs[9], ("/9", "")),
        ("/8", "un chat noir dort sur le canapé de la maison"),
        *((f"/{n}", "the white house in the green park") for n in range(15, 19)),
    ]
    numbers = range(len(pairs))
    table = {
        "url": [web.url + path for path, _ in pairs],
        "caption": [text for _, text in pairs],
        "uid": [f"{n * 7919:032x}" for n in numbers],
        "similarity": [n * 37 % 100 / 100 for n in numbers],
    }
    pq.write_table(pa.table(table), at / "pairs.parquet")
    web.files |= {f"/of_page/{n}": _photo(40 + n) for n in range(4)}
    of_pages = {f"/of_page/{n}": next(texts) for n in range(4)}
    images = [f'<img src="{web.url}{path}" alt="{text}">' for path, text in of_pages.items()]
    no = '<meta name="robots" content="noai">'
    pages = [page_record(f"http://page.example/{n}", image) for n, image in enumerate(images)]
    pages.append(page_record("http://page.example/no", f"<head>{no}</head>{images[0]}"))
    (at / "pages.warc").write_bytes(b"".join(pages))
    (at / "exam").mkdir()
    (at / "exam" / "1.png").write_bytes(golden.evaluation_image())
    (at / "list.txt").write_text(f"url:{web.url}/listed\n")
    taken = [f"url:{web.url}/{n}" for n in TAKEN]
    (at / "take.txt").write_text("\n".join([*taken, f"url:{web.url}/noai", f"prefix:{web.url}/2"]))
    texts_read = [text for _, text in (*pairs, *of_pages.items())]
    return golden.vocabulary_size(golden.Fate("", text) for text in texts_read)
