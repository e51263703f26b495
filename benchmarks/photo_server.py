"""Photographs of 640x480 and about 57 KB, and an nginx on loopback that serves them."""

import getpass
import importlib.util
import io
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

WIDTH, HEIGHT, JPEG_BYTES = 640, 480, 57_000
# In colour, and with detail nearly everywhere; all ship inside the packages.
PHOTOS = {
    "skimage": ("data", ("astronaut.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg")),
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
    "matplotlib": ("mpl-data/sample_data", ("grace_hopper.jpg",)),
}

_CONFIG = """\
worker_processes 1;
daemon off;
{user}
pid nginx.pid;
error_log error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000;
  types {{ image/jpeg jpg; }}
  client_body_temp_path temp; proxy_temp_path temp; fastcgi_temp_path temp;
  uwsgi_temp_path temp; scgi_temp_path temp;
  server {{ listen 127.0.0.1:{port} backlog=1024; root {root}; }}
}}
"""


def find_nginx() -> str:
    """The path of nginx.

    Raises:
      SystemExit: it is not installed.
    """
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not nginx:
        raise SystemExit("nginx is not on the PATH: install it (Debian: apt install nginx-light)")
    return nginx


def make_photos(folder: Path, count: int) -> None:
    """Writes `count` different crops as NUMBER.jpg, where the folder lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = [Image.open(path).convert("RGB") for path in _source_paths()]
    missing = [n for n in range(count) if not (folder / f"{n}.jpg").exists()]

    def make(number: int) -> None:
        data = _jpeg(_crop(sources[number % len(sources)], np.random.default_rng(number)))
        (folder / f"{number}.jpg").write_bytes(data)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(make, missing))


def _source_paths() -> list[Path]:
    paths = []
    for package, (folder, names) in PHOTOS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(f"{package} ships photographs and is missing: install the dev extra")
        paths += [Path(spec.submodule_search_locations[0]) / folder / name for name in names]
    return paths


def _crop(source: Image.Image, random: np.random.Generator) -> Image.Image:
    """A part of a photograph, with a sensor's noise, since enlarging smooths."""
    widest = min(source.width, source.height * WIDTH // HEIGHT)
    width = int(widest * random.uniform(0.6, 1.0))
    height = width * HEIGHT // WIDTH
    left = int(random.integers(0, source.width - width + 1))
    top = int(random.integers(0, source.height - height + 1))
    box = (left, top, left + width, top + height)
    part = source.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box)
    noisy = np.asarray(part) + random.normal(0, 4, (HEIGHT, WIDTH, 1))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _jpeg(picture: Image.Image) -> bytes:
    """The JPEG of the highest quality that is not larger than JPEG_BYTES."""
    low, high, best = 30, 96, b""
    while low <= high:
        quality = (low + high) // 2
        sink = io.BytesIO()
        picture.save(sink, "JPEG", quality=quality)
        if sink.tell() <= JPEG_BYTES:
            low, best = quality + 1, sink.getvalue()
        else:
            high = quality - 1
    return best


@contextmanager
def serve(photos: Path, folder: Path) -> Iterator[str]:
    """Serves a folder of photographs while the context lasts; gives the server's URL.

    Args:
      folder: for nginx's own files.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user = f"user {getpass.getuser()};" if getpass.getuser() == "root" else ""
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(user=user, port=port, root=photos))
    command = [find_nginx(), "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")]
    server = subprocess.Popen(command)
    try:
        _await_port(port, server, folder / "error.log")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _await_port(port: int, server: subprocess.Popen, log: Path) -> None:
    for _ in range(100):
        if server.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nginx does not serve: {log.read_text() if log.exists() else 'no log'}")


def write_list(path: Path, server: str, names: Sequence[str], count: int) -> None:
    """A Parquet list of `count` different URLs (by their query) with different alt-texts."""
    urls = [f"{server}/{names[n % len(names)]}?n={n}" for n in range(count)]
    captions = [f"photograph number {n} of the benchmark" for n in range(count)]
    pq.write_table(pa.table({"url": urls, "caption": captions}), path)
