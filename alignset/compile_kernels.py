"""Compiles all kernels for this machine, which the first runs would otherwise wait for.

    python -m alignset.compile_kernels

Runs the command on texts, and on a few small images with a blocklist and evaluation
images. The kernels are then found in the cache: see `transforms/columns/kernels.py`.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

TEXTS = """url,caption
http://a.example/b.jpg,Café  &amp; &eacute; dog
http://a.example/c.jpg,dog dog dog
http://a.example/d.jpg,a brown dog in the garden
"""
LISTED = ["host:b.example", "url:http://a.example/x.jpg", "prefix:http://a.example/y/"]
LISTED += ["text:a green cat", "phash:0123456789abcdef"]
FORMATS = ("jpeg", "gif", "png", "webp")


def _picture(seed: int) -> Image.Image:
    """A smooth image of 480 x 360."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(cells).resize((480, 360), Image.Resampling.BICUBIC)


def _write_shard(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for number, kind in enumerate(FORMATS):
            body = io.BytesIO()
            frames = [_picture(number), _picture(number + 10)] if kind == "gif" else []
            _picture(number).save(body, kind, save_all=bool(frames), append_images=frames, loop=0)
            row = {"url": f"http://a.example/{number}", "caption": "a brown dog in the garden"}
            for name, content in ((kind, body.getvalue()), ("json", json.dumps(row).encode())):
                member = tarfile.TarInfo(f"{number}.{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _write_inputs(folder: Path) -> list[list[str]]:
    """Writes all that is read; returns the flags of each run."""
    (folder / "pairs.csv").write_text(TEXTS, encoding="utf-8")
    _write_shard(folder / "images.tar")
    (folder / "list.txt").write_text("\n".join(LISTED), encoding="utf-8")
    (folder / "evaluation").mkdir()
    for number in range(len(FORMATS) - 1):  # the last image is kept
        part = _picture(number).crop((30, 20, 440, 330))
        part.save(folder / "evaluation" / f"{number}.png")
    texts = ["--input=pairs.csv", "--text_only", "--vocabulary_size=2"]
    images = ["--input=images.tar", "--blocklist=list.txt", "--eval_images=parts=evaluation"]
    return [[*texts, "--output=texts"], [*images, "--output=images"]]


def main() -> int:
    """Returns 0, or what a run that failed ended with."""
    with tempfile.TemporaryDirectory(prefix="alignset-kernels-") as name:
        for flags in _write_inputs(Path(name)):
            command = [sys.executable, "-m", "alignset.beam_runner", *flags]
            process = subprocess.run(command, cwd=name, capture_output=True, text=True)
            if process.returncode:
                print(process.stderr, file=sys.stderr)
                return process.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
