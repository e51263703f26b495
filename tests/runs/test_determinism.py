"""Same pairs, keys, shard names and bytes however the work is cut up and in whatever order: once,
on a dataset that has every feature on."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from tests.support import golden as made
from tests.support.command import digests, fates, funnel, manifest, succeed
from tests.support.page_archives import page_record
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb, small_web

PAGES = 3  # that name the same pair
# Of the dataset itself: the other files name the input or follow its rows' order.
OF_SHARDS = ("shards/", "holdout/", "rejected/images-", "rejected/holdout-", "funnel.json")


class Rich(NamedTuple):
    """A dataset with images of every kind, copies, pages, opt-outs, held-out and evaluation images,
    a blocklist, scores, repeated pairs, failed fetches and images that are encoded anew.

    Attributes:
      folder: with `pairs.parquet`, `pages.warc`. flags: of its run, whose output is `output`.
    """

    folder: Path
    flags: tuple[str, ...]
    output: Path

    def run(self, output: Path, *flags: str) -> None:
        source = f"{self.folder}/pairs.parquet,{self.folder}/pages.warc"
        succeed(source, output, *self.flags, *flags)


@pytest.fixture(scope="module")
def own_web() -> Iterator[SmallWeb]:
    with small_web() as server:
        yield server


@pytest.fixture(scope="module")
def rich(own_web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Rich:
    folder, web = tmp_path_factory.mktemp("rich"), own_web
    pairs = made.good_fates(web)[:60] + made.text_fates(web)
    pairs += [pairs[-1], *pairs[:3]]
    web.headers["/good/41"] = {"X-Robots-Tag": "noai"}
    del web.files["/good/42"]
    web.files["/good/43"] = made.evaluation_copy()
    # One image once: /good/46 at two URLs with a text of its own and with the same.
    web.files["/good/47"] = web.files["/good/48"] = web.files["/good/46"]
    pairs += [pairs[48]._replace(caption=pairs[46].caption)]
    pq.write_table(made.columns(pairs), folder / "pairs.parquet")
    web.files |= {f"/page/{n}": encoded(photograph(500 + n), "JPEG") for n in range(9)}
    images = [f'<img src="{web.url}/page/{n}" alt="{made.TEXTS[70 + n]}">' for n in range(9)]
    # The pair of /page/0 is on all pages: which of them is named must not depend on the order.
    body = [
        page_record(f"http://page.example/{n}", "".join([images[0], *images[3 * n : 3 * n + 3]]))
        for n in range(PAGES)
    ]
    (folder / "pages.warc").write_bytes(b"".join(body))
    named = pairs + [made.Fate("", made.TEXTS[70 + n]) for n in (0, 0, 0, *range(9))]
    (folder / "exam").mkdir()
    (folder / "exam" / "1.png").write_bytes(made.evaluation_image())
    (folder / "list.txt").write_text(f"url:{web.url}/good/44\ntext:{made.TEXTS[45]}\n")
    flags = (
        *(flag for flag in made.FLAGS if not flag.startswith(("--max_unsafe", "--samples"))),
        *(
            "--samples_per_shard=20",
            "--holdout=0.2",
            "--duplicates=exact",
            "--resize_mode=keep_ratio_largest",
        ),
        *("--image_size=120", "--encode_format=webp", f"--blocklist={folder}/list.txt"),
        *(f"--eval_images=exam={folder}/exam", f"--vocabulary_size={made.vocabulary_size(named)}"),
    )
    found = Rich(folder, flags, folder / "set")
    found.run(found.output, "--batch_rows=1000000", "--connections=256")
    return found


def of_shards(output: Path) -> dict[str, str]:
    return {name: d for name, d in digests(output).items() if name.startswith(OF_SHARDS)}


def test_every_feature_is_on(rich: Rich):
    assert len(manifest(rich.output)["shards"]) > 1  # 3 or 4: held-out images follow from the port
    assert manifest(rich.output)["holdout"]
    reasons = {fate.reason for fate in fates(rich.output)}
    assert reasons >= {"duplicate_pair", "rare_token", "text_on_too_many_images", "opted_out"}
    assert reasons >= {"image_with_too_many_texts", "blocked", "fetch_failed", "wrong_language"}
    assert reasons >= {"evaluation_overlap", None}
    copies = {fate.reason for fate in fates(rich.output) if "/good/4" in fate.url}
    assert copies & {"duplicate_image", "duplicate_of_training"}
    assert funnel(rich.output)["pages"]["pages"] == PAGES
    scores = [pq.read_table(path)["unsafe_score"] for path in rich.output.glob("shards/*.parquet")]
    assert all(not column.null_count for column in scores)


@pytest.mark.parametrize(
    "flags",
    [
        ("--direct_num_workers=2", "--direct_running_mode=multi_threading", "--batch_rows=7"),
        pytest.param(
            ("--direct_num_workers=2", "--direct_running_mode=multi_processing"),
            marks=pytest.mark.slow,  # its workers import for 12 s of CPU
        ),
    ],
    ids=" ".join,
)
def test_how_the_work_is_done_changes_no_byte_of_any_file(
    rich: Rich, tmp_path: Path, flags: tuple[str, ...]
):
    rich.run(tmp_path / "set", *flags)
    assert digests(tmp_path / "set") == digests(rich.output)


@pytest.mark.slow
def test_a_job_service_changes_no_byte_of_any_file(rich: Rich, tmp_path: Path):
    """Beam's own, as one would give the job to any engine."""
    service = LocalJobServicer(str(tmp_path / "staged"))
    port = service.start_grpc_server()
    flags = ("--runner=PortableRunner", f"--job_endpoint=localhost:{port}")
    try:
        rich.run(tmp_path / "set", *flags, "--environment_type=LOOPBACK", "--connections=1")
    finally:
        service.stop()
    assert digests(tmp_path / "set") == digests(rich.output)


def test_the_order_of_rows_and_files_changes_no_shard(rich: Rich, tmp_path: Path):
    """Shuffled rows, in several files whose names sort in another order; the pages from last to
    first."""
    table, random = pq.read_table(rich.folder / "pairs.parquet"), np.random.default_rng(0)
    shuffled = table.take(pa.array(random.permutation(len(table))))
    edges = [0, 11, 12, 50, len(table)]
    (tmp_path / "in").mkdir()
    for name, start, stop in zip("3120", edges[:-1], edges[1:], strict=True):
        part = shuffled.slice(start, stop - start)
        pq.write_table(part, tmp_path / "in" / f"{name}.parquet", row_group_size=20)
    records = (rich.folder / "pages.warc").read_bytes().split(b"WARC/1.0")[1:]
    (tmp_path / "pages.warc").write_bytes(b"".join(b"WARC/1.0" + r for r in reversed(records)))
    succeed(f"{tmp_path}/in,{tmp_path}/pages.warc", tmp_path / "set", *rich.flags)
    assert of_shards(tmp_path / "set") == of_shards(rich.output)
    assert fates(tmp_path / "set") == fates(rich.output)
