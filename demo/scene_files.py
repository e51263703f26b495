"""The rendered part of the web: which scenes there are, their files, and the evaluation set."""

import io
import random
import tarfile
from functools import partial
from itertools import count

import numpy as np
from PIL import Image

from alignset.demo.hashes import BITS_OF_OTHER, bits_to_nearest, perceptual_hash
from alignset.demo.scenes import Scene, encode, random_scene, render
from alignset.demo.site import Site

_TRAINED, _EVALUATED = 0, 1  # keeps the two datasets' random numbers apart


def choose_scenes(site: Site) -> tuple[list[Scene], list[Scene]]:
    """Scenes to train on and scenes to evaluate with, all with distinct English texts.

    No combination of words of an evaluation scene is trained on, in whatever order, and no two of
    them show the same two groups.
    """
    rng = random.Random(f"{site.seed} scenes")
    wanted = site.plan.texts + site.plan.evaluation
    scenes = {scene.text: scene for scene in (random_scene(rng) for _ in range(2 * wanted))}
    sure = [scenes[text] for text in site.languages.sure_english(scenes)]
    evaluation: dict[frozenset, Scene] = {}
    for scene in sure:
        if scene.second and len(evaluation) < site.plan.evaluation:
            evaluation.setdefault(frozenset((scene.first, scene.second)), scene)
    kept_apart = {scene.combination for scene in evaluation.values()}
    trained = [scene for scene in sure if scene.combination not in kept_apart]
    if len(trained) < site.plan.texts or len(evaluation) < site.plan.evaluation:
        raise ValueError(
            f"only {len(trained)} and {len(evaluation)} scenes: draw more than {2 * wanted}"
        )
    return trained[: site.plan.texts], list(evaluation.values())


def _options(number: int) -> dict[str, object]:
    """One scene in twenty is not a JPEG; the others differ in quality."""
    if number % 40 == 7:
        return {"picture_format": "WEBP", "quality": 85}
    if number % 40 == 23:
        return {"picture_format": "PNG"}
    return {"quality": 78 + 4 * (number % 5)}


def _render_file(numbered: tuple[int, Scene], seed: int, kind: int, away_from: np.ndarray) -> bytes:
    """The scene's file, drawn again until its hash is far from all of `away_from` (uint64[n])."""
    number, scene = numbered
    options = _options(number) if kind == _TRAINED else {}
    for attempt in count():
        data = encode(render(scene, (seed, kind, number, attempt)), **options)
        if not len(away_from):
            return data
        perceptual = perceptual_hash(Image.open(io.BytesIO(data)))
        if bits_to_nearest(perceptual, away_from) >= BITS_OF_OTHER:
            return data


def add_scenes(site: Site) -> None:
    """Renders both datasets; the rows of the one and `eval/00000.tar` of the other."""
    trained, evaluation = choose_scenes(site)
    draws = [scene for _ in range(site.plan.images_per_text) for scene in trained]
    draw = partial(_render_file, seed=site.seed, kind=_EVALUATED, away_from=np.zeros(0, np.uint64))
    files = list(site.pool.map(draw, enumerate(evaluation), chunksize=10))
    site.evaluation = list(zip(evaluation, files, strict=True))
    hashes = [perceptual_hash(Image.open(io.BytesIO(data))) for data in files]
    site.evaluation_hashes = np.array(hashes, np.uint64)
    draw = partial(draw, kind=_TRAINED, away_from=site.evaluation_hashes)
    for number, data in enumerate(site.pool.map(draw, enumerate(draws), chunksize=50)):
        ending = str(_options(number).get("picture_format", "JPG")).lower()
        path = site.write(f"scenes/{number // 100:02d}/{number:05d}.{ending}", data)
        site.scenes.append((path, draws[number].text))
    for path, text in site.scenes:
        site.add(path, text)
    _write_evaluation(site)


def _write_evaluation(site: Site) -> None:
    """WebDataset, the same bytes each time."""
    folder = site.root / "eval"
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "00000.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (scene, data) in enumerate(site.evaluation):
            for ending, content in (("jpg", data), ("txt", scene.text.encode())):
                entry = tarfile.TarInfo(f"{number:06d}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
