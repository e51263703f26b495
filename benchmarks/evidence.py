"""What each rule is worth: the two runs of `alignset ablate` that docs/evaluation.md shows.

  python benchmarks/evidence.py demo --output=FOLDER
  python benchmarks/evidence.py docs --output=FOLDER --packages=FOLDER [--stamps=FOLDER]

`demo` is the demo's web, with its 200 unseen scenes as the test. `docs` is the HTML of Debian's
packages: --packages holds a folder for each, as `dpkg -x PACKAGE.deb FOLDER/PACKAGE` unpacks it.
Two thirds of Tux Paint's captioned drawings (tuxpaint-stamps-default) stand on a page among
them, and the other third is the test. Both are served on loopback. Started again, it resumes.
"""

import argparse
import html
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from languages import ROOT, served

sys.path.insert(0, str(ROOT))

from alignset.demo.serve import serving
from alignset.demo.web import build

PORT = 8970
TRAINING = "--crop_px=40 --resize_px=45 --batch_size=32 --learning_rate=0.003"
ABLATION = ("--allow_private_addresses", f"--train={TRAINING}")


def stamps(folder: Path) -> Iterator[tuple[Path, str]]:
    """(file, English name) of each drawing, in the order of their paths."""
    for path in sorted(folder.rglob("*.txt")):
        name = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
        if path.with_suffix(".png").exists() and name:
            yield path.with_suffix(".png"), name


def make_docs(web: Path, packages: Path, folder: Path) -> Path:
    """The web's folder, with a page of drawings; returns the shard of the others."""
    web.mkdir(parents=True, exist_ok=True)
    for package in [*packages.iterdir(), folder]:
        if not (web / package.name).exists():
            (web / package.name).symlink_to(package.absolute())
    drawings = [*stamps(folder)]
    shown = [
        f'<img src="{folder.name}/{path.relative_to(folder)}" alt="{html.escape(name)}">'
        for number, (path, name) in enumerate(drawings)
        if number % 3
    ]
    (web / "drawings.html").write_text("\n".join(["<!doctype html><title>Stamps</title>", *shown]))
    test = web.parent / "drawings"
    test.mkdir(exist_ok=True)
    with tarfile.open(test / "00000.tar", "w") as sink:
        for number, (path, name) in enumerate(drawings):
            for end, data in (("png", path.read_bytes()), ("txt", name.encode())):
                if number % 3 == 0:
                    member = tarfile.TarInfo(f"{number:06}.{end}")
                    member.size = len(data)
                    sink.addfile(member, BytesIO(data))
    return test


def ablate(output: Path, *flags: object) -> None:
    command = (sys.executable, "-m", "alignset", "ablate", f"--output={output / 'ablation'}")
    subprocess.run([*command, *ABLATION, *map(str, flags)], cwd=ROOT, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", choices=["demo", "docs"])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--packages", type=Path)
    parser.add_argument("--stamps", type=Path, default=Path("/usr/share/tuxpaint/stamps"))
    flags = parser.parse_args()
    web = flags.output.absolute() / "web"
    if flags.pool == "demo":
        of_web = build(web, port=PORT)
        with serving(web, PORT):
            rules = (f"--{name}={value}" for name, value in of_web.items())
            data = f"--input={web / 'pairs.parquet'}", f"--eval=scenes={web / 'eval'}"
            ablate(flags.output, "--budgets=2048,4096,8192", *data, *rules)
    else:
        test = make_docs(web, flags.packages, flags.stamps)
        with served(web, PORT) as url:
            data = f"--input={web}", "--input_format=html", f"--base_url={url}/"
            samples = "--budgets=4096,12288,24576", "--recall_at=10"
            ablate(flags.output, *samples, *data, f"--eval=drawings={test}")


if __name__ == "__main__":
    main()
