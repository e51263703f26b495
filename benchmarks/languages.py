"""One model of ten languages: R@1 on held-out images, beside a model of English.

  python benchmarks/languages.py --gimp=FOLDER [--stamps=FOLDER] [--steps=500] [--cache=DIR]

The images come from GIMP's help and Tux Paint's stamps, with a title or a name in each language.
FOLDER of --gimp holds usr/share/gimp/2.0/help, as `dpkg -x` unpacks Debian's
gimp-help-{en,de,es,fr,it,ja,ko,ru,sv,zh-cn}; the stamps are Debian's tuxpaint-stamps-default.
Serves both on loopback, curates them twice (all languages, English), trains `tiny` on each for
equal steps with vocabularies of equal size, and evaluates both on the same held-out images, each
language by itself. Prints a table and a line of JSON.
"""

import argparse
import functools
import html
import http.server
import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parent.parent
LANGUAGES = ("de", "en", "es", "fr", "it", "ja", "ko", "ru", "sv", "zh")
_FIGURE = re.compile(r'<div class="(?:informal)?figure">')
_TITLE = re.compile(r'<p class="title">(.*?)</p>', re.DOTALL)
_PICTURE = re.compile(r'<img\b[^>]*src="([^"]*\.(?:png|jpg))"')
_NUMBER = re.compile(r"^\D{0,20}\d+\.\d+\.?\s*")  # "Figure 3.1. "
# The images are small, and their texts are not spam.
FLAGS = (
    *("--allow_private_addresses", "--min_image_side=40", "--max_image_aspect=6"),
    *("--max_unsafe_score=1", "--holdout=0.12", "--requests_per_second_per_host=0"),
)
TRAINING = ("--preset=tiny", "--vocabulary_size=8000", "--trackers=")


def figures(help_: Path) -> Iterator[tuple[str, str]]:
    """(path of the English image, title) of each figure, in each language."""
    folders = {"zh": "zh_CN"}
    for language in LANGUAGES:
        for page in sorted((help_ / folders.get(language, language)).glob("*.html")):
            for part in _FIGURE.split(page.read_text(encoding="utf-8", errors="replace"))[1:]:
                title, picture = _TITLE.search(part), _PICTURE.search(part[:3000])
                if title and picture and (help_ / "en" / picture[1]).exists():
                    text = " ".join(html.unescape(re.sub(r"<[^>]+>", "", title[1])).split())
                    yield f"gimp/en/{picture[1]}", _NUMBER.sub("", text)


def stamps(folder: Path) -> Iterator[tuple[str, str]]:
    """(path, name) of each stamp, in each language."""
    for path in sorted(folder.rglob("*.txt")):
        if not path.with_suffix(".png").exists():
            continue
        first, *others = path.read_text(encoding="utf-8", errors="replace").splitlines()
        names = dict(re.findall(r"^(\w+)\.utf8=(.+)$", "\n".join(others), re.MULTILINE))
        names = {"zh": names.get("zh_CN", "")} | names | {"en": first}
        picture = path.with_suffix(".png").relative_to(folder)
        yield from ((f"stamps/{picture}", names[code]) for code in LANGUAGES if names.get(code))


@contextmanager
def served(folder: Path, port: int = 0) -> Iterator[str]:
    """The URL of a server of a folder's files on loopback."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass


def run(*command: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "alignset", *map(str, command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def curate(cache: Path, help_: Path, stamps_: Path) -> None:
    web = cache / "web"
    web.mkdir(parents=True, exist_ok=True)
    for name, folder in (("gimp", help_), ("stamps", stamps_)):
        if not (web / name).exists():
            (web / name).symlink_to(folder.absolute())
    pairs = dict.fromkeys([*figures(help_), *stamps(stamps_)])
    with served(web) as url:
        rows = [{"url": f"{url}/{path}", "text": text} for path, text in pairs]
        pq.write_table(pa.Table.from_pylist(rows), cache / "pairs.parquet")
        for name, language in (("all", ",".join(LANGUAGES)), ("english", "en")):
            flags = (f"--input={cache / 'pairs.parquet'}", f"--language={language}", *FLAGS)
            run("curate", *flags, f"--output={cache / name}")


def evaluated(cache: Path, model: str) -> dict[str, Any]:
    """The scores of each language on the held-out images."""
    scores: dict[str, Any] = json.loads(
        run(
            *("evaluate", "retrieval", f"--model={cache / 'runs' / model}"),
            *(f"--data={cache / 'all' / 'holdout'}", f"--cache={cache / 'features'}"),
        )
    )
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--gimp", type=Path, required=True)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "languages")
    flags = parser.parse_args()
    cache: Path = flags.cache
    if not (cache / "english" / "manifest.json").exists():
        curate(cache, flags.gimp / "usr/share/gimp/2.0/help", flags.stamps)
    results = {}
    for name in ("all", "english"):
        where = (f"--shards={cache / name / 'shards'}", f"--run={cache / 'runs' / name}")
        run("train", *where, *TRAINING, f"--steps={flags.steps}")
        results[name] = evaluated(cache, name)
    print("| language | captions | chance | R@1, all languages | R@1, English alone |")
    print("|---|---|---|---|---|")
    for code in results["all"]["languages"]:
        both = [of["languages"][code] for of in results.values()]
        shown = [f"{(b['image_to_text']['R@1'] + b['text_to_image']['R@1']) / 2:.1f}" for b in both]
        chance = both[0]["chance"]["image_to_text"]["R@1"]
        captions = both[0].get("captions", both[0]["n"])
        print(f"| {code} | {captions} | {chance:.1f} | {' | '.join(shown)} |")
    print(json.dumps(results))


if __name__ == "__main__":
    main()
