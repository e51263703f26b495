"""The libraries that people read such sets with read ours as it is, and open_clip trains on it; and
we read img2dataset's."""

import json
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image as PillowImage

from alignset.pipeline.datasets.facts import find_facts
from alignset.pipeline.report.page import render_page
from tests.support.command import digests, fates, funnel, kept, manifest, samples, succeed
from tests.support.golden import TEXTS, Fate
from tests.support.golden_run import Golden
from tests.support.picture_files import encoded, photograph
from tests.support.small_web import SmallWeb

# The libraries take seconds to import.
pytestmark = pytest.mark.slow
BATCH = 16
# The smallest model of open_clip: one layer in each tower, and its tokenizer's vocabulary.
TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(autouse=True, scope="module")
def _offline() -> Iterator[None]:
    """Read when `datasets` is imported, which only the tests below do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


def captions(golden: Golden) -> Counter[str]:
    return Counter(fate.caption for fate in golden.fates if fate.reason is None)


def shards(golden: Golden) -> list[str]:
    return [str(path) for path in sorted(golden.output.glob("shards/*.tar"))]


def test_webdataset_sees_the_kept_pairs(golden: Golden):
    dataset = (
        webdataset.WebDataset(shards(golden), shardshuffle=False)
        .decode("pil")
        .to_tuple("jpg;png;webp", "txt", "json", "__key__")
    )
    samples = list(dataset)
    assert Counter(text for _, text, _, _ in samples) == captions(golden)
    assert all(image.size == (said["width"], said["height"]) for image, _, said, _ in samples)
    sidecars = sorted(golden.output.glob("shards/*.parquet"))
    of_shards = [sorted(pq.read_table(path)["key"].to_pylist()) for path in sidecars]
    assert [key for *_, key in samples] == [key for keys in of_shards for key in keys]


def datasets_rows(golden: Golden, cache: Path, streaming: bool) -> list[dict]:
    import datasets

    loaded = datasets.load_dataset(
        "webdataset",
        data_files=shards(golden),
        split="train",
        streaming=streaming,
        cache_dir=str(cache),
    )
    return list(loaded)


@pytest.mark.parametrize("streaming", [False, True])
def test_datasets_sees_the_kept_pairs(plain: Golden, tmp_path: Path, streaming: bool):
    rows = datasets_rows(plain, tmp_path, streaming)
    assert Counter(row["txt"] for row in rows) == captions(plain)
    assert all(row["jpg"].size == (row["json"]["width"], row["json"]["height"]) for row in rows)
    assert {row["json"]["caption"] for row in rows} == set(captions(plain))


def test_datasets_sees_every_image_of_a_set_of_several_formats(golden: Golden, tmp_path: Path):
    for row in datasets_rows(golden, tmp_path, streaming=True):
        assert any(row.get(name) is not None for name in ("jpg", "png", "webp"))


def test_datasets_loads_the_folder_by_its_card(plain: Golden, tmp_path: Path):
    import datasets

    loaded = datasets.load_dataset(
        str(plain.output), split="train", streaming=True, cache_dir=str(tmp_path)
    )
    assert Counter(row["txt"] for row in loaded) == captions(plain)


def test_open_clips_own_pipeline_sees_the_kept_pairs(golden: Golden):
    from open_clip_train.data import get_wds_dataset

    arguments = SimpleNamespace(
        train_data=None,
        val_data=f"{golden.output}/shards/{{00000..{len(shards(golden)) - 1:05d}}}.tar",
        val_num_samples=len(captions(golden)),
        train_data_upsampling_factors=None,
        batch_size=16,
        workers=0,
        world_size=1,
        seed=0,
    )

    def pixels(image: PillowImage.Image) -> np.ndarray:
        assert image.mode == "RGB"
        return np.asarray(image.resize((8, 8)))

    texts_seen: Counter[str] = Counter()
    loader = get_wds_dataset(arguments, pixels, is_train=False, tokenizer=lambda text: [text])
    for images, texts in loader.dataloader:
        assert images.shape[1:] == (8, 8, 3)
        texts_seen.update(texts)
    assert texts_seen == captions(golden)


def test_duckdb_sees_every_pair_once(golden: Golden):
    database = duckdb.connect()
    out = golden.output
    query = f"SELECT url, caption FROM '{out}/shards/*.parquet' WHERE status = 'success'"
    rows = [Fate(*row) for row in database.sql(query).fetchall()]
    query = f"SELECT url, caption, reason, detail FROM '{out}/rejected/*.parquet'"
    rows += [Fate(*row) for row in database.sql(query).fetchall()]
    assert Counter(rows) == Counter(golden.fates)
    query = f"SELECT reason, count(*) FROM '{out}/rejected/*.parquet' GROUP BY ALL"
    dropped = {
        reason: count
        for step in funnel(out)["steps"]
        for reason, count in step["dropped"].items()
        if count  # no page was read, so none is broken
    }
    assert dict(database.sql(query).fetchall()) == dropped


def test_our_own_set_read_again_gives_the_same_without_a_fetch(
    plain: Golden, web: SmallWeb, tmp_path: Path
):
    """The flag that allows loopback is not given, so a fetch would fail."""
    before = len(web.requests)
    flags = [flag for flag in plain.flags if flag != "--allow_private_addresses"]
    succeed(plain.output, tmp_path / "set", *flags)
    assert len(web.requests) == before
    assert fates(tmp_path / "set") == fates(plain.output)
    assert manifest(tmp_path / "set")["shards"] == manifest(plain.output)["shards"]
    of_shards = [
        {name: digest for name, digest in digests(out).items() if name.startswith("shards/")}
        for out in (tmp_path / "set", plain.output)
    ]
    # Each sample of an image with several texts has the bytes, and all are read.
    for files, out in zip(of_shards, (tmp_path / "set", plain.output), strict=True):
        for name in [name for name in files if name.endswith("_stats.json")]:
            stats = json.loads((out / name).read_text())
            files[name] = json.dumps(stats | {"bytes_downloaded": 0})
    assert of_shards[0] == of_shards[1]


@pytest.fixture(scope="module")
def img2datasets(web: SmallWeb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards made by the real img2dataset."""
    folder = tmp_path_factory.mktemp("img2dataset")
    web.files |= {f"/peer/{n}": encoded(photograph(300 + n), "JPEG") for n in range(24)}
    urls = [f"{web.url}/peer/{n}" for n in range(24)] + [f"{web.url}/missing"]
    texts = [*TEXTS[:23], "the garden", TEXTS[23]]
    pq.write_table(pa.table({"url": urls, "caption": texts}), folder / "pairs.parquet")
    arguments = {
        "url_list": folder / "pairs.parquet",
        "input_format": "parquet",
        "url_col": "url",
        "caption_col": "caption",
        "output_format": "webdataset",
        "output_folder": folder / "shards",
        "disable_all_reencoding": True,
        "number_sample_per_shard": 10,
        "processes_count": 1,
        "thread_count": 8,
        "retries": 0,
    }
    script = (
        "import json, sys; from img2dataset import download; download(**json.loads(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(arguments, default=str)],
        env=os.environ | {"NO_ALBUMENTATIONS_UPDATE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "shards"


def test_img2datasets_shards_are_filtered_without_a_fetch(
    img2datasets: Path, web: SmallWeb, tmp_path: Path
):
    assert len(list(img2datasets.glob("*.tar"))) == 3
    before = len(web.requests)
    succeed(img2datasets, tmp_path / "set", "--min_image_side=100")
    assert len(web.requests) == before
    urls = [f"{web.url}/peer/{n}" for n in range(24)]
    expected = [Fate(url, text) for url, text in zip(urls[:23], TEXTS[:23], strict=True)]
    dropped = Fate(urls[23], "the garden", "too_few_words")
    assert fates(tmp_path / "set") == Counter([*expected, dropped])
    bodies = {sample["jpg"] for sample in samples(tmp_path / "set").values()}
    assert bodies == {web.files[f"/peer/{n}"] for n in range(23)}


def test_img2datasets_folder_is_reported_on_and_copied_without_what_is_listed(
    img2datasets: Path, web: SmallWeb, tmp_path: Path
):
    facts = find_facts(str(img2datasets))
    assert (facts.kept, facts.seen, len(facts.stats)) == (24, 25, 3)
    assert [step.dropped for step in facts.steps if any(step.dropped.values())] == [
        {"fetch_failed": 1}
    ]
    assert render_page(facts).count('"picture":') == 24
    picture, new, before = tmp_path / "listed.png", tmp_path / "new", len(web.requests)
    picture.write_bytes(encoded(photograph(305), "PNG"))
    flags = [f"--blocklist=image:{picture}", "--score_only", "--unsafe_model="]
    succeed(img2datasets, new, "--columns=all,input_key", *flags)
    assert len(web.requests) == before
    urls = {f"{web.url}/peer/{n}" for n in range(24) if n != 5}
    assert {json.loads(of["json"])["url"] for of in samples(new).values()} == urls
    rows = [row for path in new.glob("shards/*.parquet") for row in pq.read_table(path).to_pylist()]
    of_tar = {path.stem for path in img2datasets.glob("*.tar")}
    assert {row["input_key"][:5] for row in rows} == of_tar


def test_open_clips_command_trains_on_a_set(plain: Golden, tmp_path: Path):
    last, pairs = len(list(plain.output.glob("shards/*.tar"))) - 1, len(kept(plain.output))
    assert last > 0
    (tmp_path / "tiny").mkdir()
    told = {"model_cfg": TINY, "preprocess_cfg": {}}
    (tmp_path / "tiny" / "open_clip_config.json").write_text(json.dumps(told))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "open_clip_train.main", "--dataset-type=webdataset"),
            f"--train-data={plain.output}/shards/{{00000..{last:05d}}}.tar",
            *(f"--train-num-samples={pairs}", f"--batch-size={BATCH}", "--workers=1"),
            *(f"--model=local-dir:{tmp_path}/tiny", "--precision=fp32", "--device=cpu"),
            *("--epochs=1", "--warmup=2", "--log-every-n-steps=1", f"--logs={tmp_path}/logs"),
        ],
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-2000:]
    losses = [float(loss) for loss in re.findall(r" Loss: (\S+)", said)]
    assert len(losses) == math.ceil(pairs / BATCH) > 1, said[-2000:]
    assert all(map(math.isfinite, losses))
    scales = re.findall(r"Logit Scale: (\S+)", said)
    assert scales[0] != scales[-1]  # the steps moved what is learned
