"""Every number of a training run, in one frozen dataclass."""

import math
import re
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any, Self

from alignset.settings import Allowed, Checked, above, between, one_of, setting
from alignset.train.errors import SettingsError
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS

COUNT = between(1, words="at least 1")
NOT_NEGATIVE = between(0, words="at least 0 and finite")
POSITIVE = above(0, words="larger than 0 and finite")
FRACTION = between(0, math.nextafter(1, 0), "at least 0 and below 1")
SHARE = between(math.ulp(0.0), 1, "larger than 0 and at most 1")
MOMENTUM = between(math.ulp(0.0), math.nextafter(1, 0), "larger than 0 and below 1")
MOST_TRACED = 100  # steps, whose events are in memory until the last
# Where texts are in a sample: a field of KEY.json, or the extension of a file, as readers have it.
_PLACE = re.compile(r"json\..+|(?!(?:jpe?g|png|webp|json\.?)$)[^A-Z\s]+", re.DOTALL)
HOW_IT_IS_RUN = "how it is run, not what is learned"
free = partial(setting, decides=False)  # may differ when a run is resumed


def choice(*names: str) -> Allowed:
    """Allows some names."""
    return one_of(names, f"{', '.join(names[:-1])} or {names[-1]}")


@dataclass(frozen=True)
class RunSettings(Checked):
    """Fields of every run: how it is run, not what is learned.

    Beside the declaration's own, a field's metadata may have `group`, the title that it begins in
    the help; `brings`, flags that it stands for; and `warns`: the field decides what is learned,
    and may differ all the same when a run is resumed, which a line says.
    """

    refusal = SettingsError

    precision: str = setting(
        "auto",
        "of the towers: bf16, fp32 (TF32 on a GPU), highest (float32), or auto: bf16 on a GPU "
        "that has it (compute capability 8.0), else fp32",
        allowed=choice("auto", "bf16", "fp32", "highest"),
    )
    device: str = free(
        "auto",
        "cpu, cuda, or auto: a GPU where there is one",
        allowed=choice("auto", "cpu", "cuda"),
        group=HOW_IT_IS_RUN,
    )
    decode_threads: int = free(8, "threads that decode images", allowed=COUNT)
    log_every: int = free(100, "steps between two reports", allowed=COUNT)
    samples_every: int = free(
        1_000,
        "steps between two samples of training pairs in the tracker; 0: none",
        allowed=NOT_NEGATIVE,
    )
    trackers: str = free("tensorboard", "tensorboard, or your own as module:name, comma-separated")
    max_skipped_steps: int = free(
        20,
        "steps without a finite loss and gradient, beyond which the run ends",
        allowed=NOT_NEGATIVE,
    )
    checkpoint_every: int = free(1_000, "steps between two checkpoints", allowed=COUNT)
    keep_checkpoints: int = free(2, "checkpoints to keep", allowed=COUNT)

    def check(self) -> None:
        for name in filter(None, self.trackers.split(",")):
            if name != "tensorboard" and ":" not in name:
                raise SettingsError(
                    f"there is no tracker {name!r} here: pass tensorboard, or a class of your own "
                    "as --trackers=module:name; docs/train.md shows one for Weights & Biases"
                )

    def resolve(self, device: str, capability: tuple[int, int] = (0, 0)) -> Self:
        """These, with all decided that follows the device or another setting.

        Args:
          device: "cpu" or "cuda".
          capability: of the GPU. Before 8.0 cuDNN has no convolutions in bf16, which torch then
            imitates, slowly.

        >>> [Settings().resolve("cuda", of).precision for of in ((7, 5), (8, 0))]
        ['fp32', 'bf16']
        """
        following = "bf16" if capability >= (8, 0) else "fp32"
        return replace(self, precision=following if self.precision == "auto" else self.precision)


def ordered_fields(kind: type[Checked]) -> list[Field[Any]]:
    """Lists the fields of settings as the help has them, its own before its bases'."""
    inherited = {of.name for base in kind.__mro__[1:] if is_dataclass(base) for of in fields(base)}
    return sorted(fields(kind), key=lambda field: field.name in inherited)


@dataclass(frozen=True)
class Settings(RunSettings):
    """One training run. Each field is also a flag of `alignset train`. Defaults: the paper's."""

    # Model (sections 4.1 and 5).
    start_from: str = setting(
        "",
        "the AlignModel to continue from, a folder or a published name, in place of "
        "image_tower, text_tower, text_dropout, vocabulary_size and temperature; not a CLIP",
        group="model",
        brings="image_tower text_tower image_weights text_weights text_dropout tokenizer "
        "tokenizer_texts vocabulary_size temperature",
    )
    image_weights: str = setting(
        "",
        "an EfficientNet of transformers that the image tower begins as: a folder or a "
        "published name",
    )
    text_weights: str = setting(
        "",
        "a BERT that the text tower begins as, with its tokenizer: a folder or a published name",
        brings="tokenizer_texts vocabulary_size",
    )
    freeze: str = setting(
        "",
        "the tower that is not trained: image or text",
        allowed=choice("", "image", "text"),
    )
    image_tower: str = setting(
        "b7", "EfficientNet, by its name in train/towers.py", allowed=choice(*IMAGE_TOWERS)
    )
    text_tower: str = setting(
        "base", "BERT, by its name in train/towers.py", allowed=choice(*TEXT_TOWERS)
    )
    tokenizer: str = setting(
        "",
        "a fast tokenizer of any kind, a folder or a published name; empty: learned on the texts",
        brings="tokenizer_texts vocabulary_size",
    )
    vocabulary_size: int = setting(100_000, "WordPieces of the tokenizer, at most", allowed=COUNT)
    tokenizer_texts: int = setting(
        1_000_000,
        "texts to learn the tokenizer on, at most, as many of each shard",
        allowed=COUNT,
    )
    max_tokens: int = setting(
        64,
        "tokens of a text that are read, with its first and last",
        allowed=between(3, 512, "3 to 512"),
    )
    drop_path: float = setting(
        0.2, "stochastic depth of the image tower's last block", allowed=FRACTION
    )
    text_dropout: float = setting(0.1, "dropout of the text tower", allowed=FRACTION)
    # The group is the images of one core of the paper's TPU (16,384 on 1,024). The momentum is
    # PyTorch's, 1 - TensorFlow's 0.99.
    batch_norm_group_size: int = setting(
        16, "images that BatchNorm's statistics are taken of", allowed=COUNT
    )
    batch_norm_momentum: float = setting(
        0.01, "weight of a new step in BatchNorm's running statistics", allowed=MOMENTUM
    )
    # Images (section 5).
    resize_px: int = setting(
        346, "px, the side of the square that images are resized to", allowed=COUNT, group="images"
    )
    crop_px: int = setting(289, "px, the side of the crop that is trained on", allowed=COUNT)
    horizontal_flip: bool = setting(True, "mirror an image with probability 0.5, at random")
    caption_field: str = setting(
        "",
        "field of KEY.json with a text, or a list that epochs take turns on; empty: KEY.txt",
    )
    captions: str = setting(
        "",
        "places of texts with weights, by which an epoch draws one of those that a sample has: "
        "txt:0.5,json.recaption:0.5; json.FIELD: of KEY.json",
    )
    caption_lines: bool = setting(
        False, "each line of a text is a caption; each epoch uses the next one"
    )
    # Loss (section 4.1).
    loss: str = setting(
        "softmax",
        "softmax (ALIGN's) or sigmoid (SigLIP's)",
        allowed=choice("softmax", "sigmoid"),
        group="loss",
    )
    label_smoothing: float = setting(
        0.1, "of the softmax, share of a label that is spread over the batch", allowed=FRACTION
    )
    temperature: float = setting(
        0.0,
        "of the loss at the first step, and learned; 0: 1 for softmax, 0.1 for sigmoid",
        allowed=NOT_NEGATIVE,
    )
    # Below 0.001, cosines that differ by 0.01 have odds of e^10: each softmax is sure of one
    # candidate, right or wrong. The paper's settled near 1/64; CLIP's is stopped at 0.01.
    min_temperature: float = setting(1e-3, "the temperature is never lower", allowed=POSITIVE)
    # Optimiser (section 5).
    optimizer: str = setting(
        "lamb", "lamb or adamw", allowed=choice("lamb", "adamw"), group="optimizer"
    )
    learning_rate: float = setting(
        1e-3, "at the end of the warm-up; then it falls to zero", allowed=POSITIVE
    )
    schedule: str = setting(
        "linear",
        "how it falls: linear, cosine, or constant, which falls in the cooldown alone",
        allowed=choice("linear", "cosine", "constant"),
    )
    cooldown_steps: int = setting(
        0,
        "last steps, in which a constant learning rate falls to zero",
        warns=True,
        allowed=NOT_NEGATIVE,
    )
    beta1: float = setting(0.9, "decay rate of the mean of gradients", allowed=FRACTION)
    beta2: float = setting(
        0.0, "decay rate of their mean square; 0: 0.999 for lamb, 0.98 for adamw", allowed=FRACTION
    )
    weight_decay: float = setting(
        1e-5, "of all weights but biases and normalisations", allowed=NOT_NEGATIVE
    )
    max_gradient_norm: float = setting(
        0.0, "a longer gradient is made this long; 0: none is", allowed=NOT_NEGATIVE
    )
    warmup_steps: int = setting(
        10_000, "steps in which the learning rate rises from zero", allowed=NOT_NEGATIVE
    )
    steps: int = setting(1_200_000, "of the whole run", warns=True, allowed=COUNT)
    epochs: float = setting(
        0.0,
        "passes over the data, in place of --steps",
        warns=True,
        allowed=NOT_NEGATIVE,
    )
    batch_size: int = setting(16_384, "pairs of a step, over all processes", allowed=COUNT)
    micro_batch_size: int = setting(
        64,
        "pairs that go through the towers at once, per process; if fewer than its share of "
        "batch_size, gradients are cached",
        warns=True,
        allowed=COUNT,
    )
    text_buckets: int = setting(
        0,
        "parts of a micro-batch, by length, padded to one length each; 0: 4 on a CPU, 1 on a GPU",
        allowed=NOT_NEGATIVE,
    )
    seed: int = setting(0, "of all random numbers", allowed=NOT_NEGATIVE)
    shuffle_samples: int = setting(
        10_000, "size of the buffer that the next sample is drawn from", allowed=COUNT
    )
    # How it is run, not what is learned.
    max_skipped_share: float = free(
        0.01,
        "share of bad samples, of all or of the first 1,000, beyond which the run ends",
        allowed=FRACTION,
        group=HOW_IT_IS_RUN,
    )
    check_memory: bool = free(
        True, "refuse, before it starts, a run whose step does not fit into memory"
    )
    checkpoint_every_minutes: float = free(
        15.0,
        "minutes between two checkpoints where the steps between take longer; 0: any",
        allowed=NOT_NEGATIVE,
    )
    profile: str = free("", "first and last step of a trace in RUN/profile.json, as 10:20")
    compile: bool = free(False, "have torch.compile make the step faster")
    checkpoint_activations: bool = free(
        False, "compute what lies within a block twice, to take less memory"
    )
    cached_images: int = free(0, "decoded images to keep in memory", allowed=NOT_NEGATIVE)
    validate: str = free(
        "",
        "other shards, named as in --shards, on which the model is scored while it is trained",
    )
    validate_every: int = free(
        1_000,
        "steps between two validations; the last step has one too",
        allowed=COUNT,
        needs="validate",
    )
    # R@1 among 1,000 is what Flickr30K's and MSCOCO's smaller tables have too.
    validate_pairs: int = free(
        1_000,
        "pairs that are validated on, at most: the first of --validate",
        allowed=COUNT,
        needs="validate",
    )
    validate_classes: str = free(
        "",
        "zero-shot classification at each validation: a folder with images in a subfolder per "
        "class, or a table of images and classes",
        needs="validate",
    )

    @property
    def kept_of_squares(self) -> float:
        """beta2, by the optimiser where none is given."""
        return self.beta2 or (0.999 if self.optimizer == "lamb" else 0.98)

    @property
    def first_temperature(self) -> float:
        """temperature, by the loss where none is given."""
        return self.temperature or (0.1 if self.loss == "sigmoid" else 1.0)

    @property
    def caption_flag(self) -> str:
        """The flag that names the texts; empty: none does."""
        names = ("captions", "caption_field")
        return next((f"--{of}={name}" for of in names if (name := getattr(self, of))), "")

    def caption_places(self) -> dict[str, float]:
        """The places of a sample's texts, as `shard_samples` has them, with their weights; a weight
        is nan where it is none, and where a place is named twice.

        >>> Settings(captions="txt:2,json.said:1").caption_places()
        {'txt': 2.0, 'json.said': 1.0}
        """
        if not self.captions:
            return {f"json.{self.caption_field}" if self.caption_field else "txt": 1.0}
        places = dict[str, float]()
        for part in self.captions.split(","):
            place, _, weight = part.strip().rpartition(":")
            try:
                places[place] = float(weight) if place and place not in places else math.nan
            except ValueError:
                places[place] = math.nan
        return places

    def check(self) -> None:
        first, _, last = self.profile.partition(":")
        if self.profile and not (
            first.isdecimal()
            and last.isdecimal()
            and 1 < int(first) <= int(last) < int(first) + MOST_TRACED
        ):
            raise SettingsError(
                f"profile must be like 10:20, from 2 on, of at most {MOST_TRACED} steps; "
                f"got {self.profile!r}"
            )
        if self.captions and self.caption_field:
            raise SettingsError("--captions and --caption_field both name texts: pass one of them")
        places = self.caption_places()
        is_text = all(map(_PLACE.fullmatch, places))
        if not (is_text and min(places.values()) > 0 and sum(places.values()) < math.inf):
            raise SettingsError(
                "captions must be places of texts, each once, with weights above 0, such as "
                f"txt:0.5,json.recaption:0.5; got {self.captions!r}"
            )
        if self.crop_px > self.resize_px:
            raise SettingsError(
                f"crop_px must be at most resize_px; got {self.crop_px} and {self.resize_px}"
            )
        if not self.start_from and self.min_temperature > self.first_temperature:
            raise SettingsError(
                "min_temperature must be at most temperature; "
                f"got {self.min_temperature} and {self.first_temperature}"
            )

    def resolve(self, device: str, capability: tuple[int, int] = (0, 0)) -> Self:
        return replace(
            super().resolve(device, capability),
            text_buckets=self.text_buckets or (1 if device == "cuda" else 4),
            temperature=self.first_temperature,
        )

    def set_steps(self, samples: int) -> "Settings":
        """These, with as many steps as the epochs take over so many samples."""
        steps = max(1, math.ceil(self.epochs * samples / self.batch_size))
        return replace(self, steps=steps) if self.epochs else self

    def micro_batches(self, processes: int) -> tuple[int, int]:
        """How many micro-batches one of so many processes takes in a step, and their pairs.

        Raises:
          SettingsError: the batch cannot be shared out evenly.

        >>> Settings(batch_size=64, micro_batch_size=16).micro_batches(2)
        (2, 16)
        """
        share = self.batch_size // processes
        pairs = min(self.micro_batch_size, share)
        if self.batch_size % processes:
            raise SettingsError(
                f"batch_size must be a multiple of the {processes} processes; got {self.batch_size}"
            )
        if share % pairs:
            raise SettingsError(
                f"micro_batch_size must divide the {share} pairs of one process; got {pairs}"
            )
        if pairs > self.batch_norm_group_size and pairs % self.batch_norm_group_size:
            raise SettingsError(
                f"batch_norm_group_size must divide the {pairs} pairs that go through the towers "
                f"at once; got {self.batch_norm_group_size}"
            )
        return share // pairs, pairs
