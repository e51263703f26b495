"""Every number of a training run, in one frozen dataclass."""

import math
from collections.abc import Collection, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, NamedTuple

from alignset.train.errors import SettingsError
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS


class Range(NamedTuple):
    least: float
    end: float  # the first that is too large
    words: str


COUNT = Range(1, math.inf, "at least 1")
NOT_NEGATIVE = Range(0, math.inf, "at least 0 and finite")
POSITIVE = Range(math.ulp(0.0), math.inf, "larger than 0 and finite")
FRACTION = Range(0, 1, "at least 0 and below 1")
SHARE = Range(math.ulp(0.0), 1 + math.ulp(1.0), "larger than 0 and at most 1")
MOMENTUM = Range(math.ulp(0.0), 1.0, "larger than 0 and below 1")


def setting(default: Any, meaning: str, *, free: bool = False, warns: bool = False) -> Any:
    """A field of settings.

    Args:
      meaning: what its flag's help says.
      free: whether it may differ when a run is resumed: it does not change what is learned.
      warns: whether it may differ then although it does, which a line says.
    """
    return field(default=default, metadata={"help": meaning, "free": free, "warns": warns})


def check_fields(settings: Any, allowed: Mapping[str, Range | Collection[str]]) -> None:
    """Checks fields of settings.

    Args:
      allowed: the range of a number, or the names that a field may have, by field.

    Raises:
      SettingsError: naming the field, what is allowed, and the value.
    """
    for name in [of.name for of in fields(settings) if of.name in allowed]:
        value, of_name = getattr(settings, name), allowed[name]
        if isinstance(of_name, Range):
            if not of_name.least <= value < of_name.end:  # also refuses nan
                raise SettingsError(f"{name} must be {of_name.words}; got {value}")
        elif value not in of_name:
            *others, last = of_name
            raise SettingsError(f"{name} must be {', '.join(others)} or {last}; got {value!r}")
    for name in filter(None, settings.trackers.split(",")):
        if name != "tensorboard" and ":" not in name:
            raise SettingsError(
                f"there is no tracker {name!r} here: pass tensorboard, or a class of your own as "
                "--trackers=module:name; docs/training.md shows one for Weights & Biases"
            )


@dataclass(frozen=True)
class RunSettings:
    """Fields of every run: how it is run, not what is learned."""

    device: str = setting("auto", "cpu, cuda, or auto: a GPU where there is one", free=True)
    decode_threads: int = setting(8, "threads that decode images", free=True)
    log_every: int = setting(100, "steps between two reports", free=True)
    samples_every: int = setting(
        1_000, "steps between two looks at what is trained on; 0: none", free=True
    )
    trackers: str = setting(
        "tensorboard",
        "what gets the run's numbers: tensorboard, your own as module:name; commas",
        free=True,
    )
    checkpoint_every: int = setting(1_000, "steps between two checkpoints", free=True)
    keep_checkpoints: int = setting(2, "checkpoints to keep", free=True)


def own_first(kind: type[RunSettings]) -> list[Field[Any]]:
    """The fields of settings, with every run's behind its own."""
    of_all = {of.name for of in fields(RunSettings)}
    return sorted(fields(kind), key=lambda of: of.name in of_all)


@dataclass(frozen=True)
class Settings(RunSettings):
    """One training run. Each field is also a flag of `alignset train`. Defaults: the paper's."""

    # Model (sections 4.1 and 5).
    start_from: str = setting(
        "",
        "the AlignModel to continue from, a folder or a published one's name, in place of "
        "image_tower, text_tower, text_dropout, vocabulary_size and temperature; empty: from "
        "scratch. An EfficientNet or a BERT alone: image_weights, text_weights; no CLIP",
    )
    image_weights: str = setting(
        "",
        "an EfficientNet that the image tower begins as: a folder or a published one's name, of "
        "transformers; empty: none",
    )
    text_weights: str = setting(
        "",
        "a BERT that the text tower begins as, with its tokenizer: a folder or a published one's "
        "name; empty: none",
    )
    freeze: str = setting("", "the tower that is not trained: image or text; empty: none")
    image_tower: str = setting("b7", "EfficientNet, by its name in train/towers.py")
    text_tower: str = setting("base", "BERT, by its name in train/towers.py")
    tokenizer: str = setting(
        "",
        "a fast tokenizer of any kind (WordPiece, BPE, Unigram), a folder or a published one's "
        "name; empty: learned on the texts",
    )
    vocabulary_size: int = setting(100_000, "WordPieces of the tokenizer, at most")
    tokenizer_texts: int = setting(
        1_000_000, "texts that the tokenizer is learned of, at most, as many of each shard"
    )
    max_tokens: int = setting(64, "tokens of a text that are read, with its first and last")
    drop_path: float = setting(0.2, "stochastic depth of the image tower's last block")
    text_dropout: float = setting(0.1, "dropout of the text tower")
    # The group is the images of one core of the paper's TPU (16,384 on 1,024). The momentum is
    # PyTorch's, 1 - TensorFlow's 0.99.
    batch_norm_group_size: int = setting(16, "images that BatchNorm's statistics are taken of")
    batch_norm_momentum: float = setting(
        0.01, "weight of a new step in BatchNorm's running statistics"
    )
    # Images (section 5).
    resize_px: int = setting(346, "px, the side of the square that images are resized to")
    crop_px: int = setting(289, "px, the side of the crop that is trained on")
    horizontal_flip: bool = setting(True, "mirror an image with probability 0.5, at random")
    caption_field: str = setting(
        "",
        "field of KEY.json with the text, or a list of texts; each epoch uses the next one; "
        "empty: KEY.txt has it",
    )
    caption_lines: bool = setting(
        False, "each line of a text is a caption; each epoch uses the next one"
    )
    # Loss (section 4.1).
    label_smoothing: float = setting(0.1, "share of a label that is spread over the batch")
    temperature: float = setting(1.0, "of the softmax at the first step; it is learned")
    # Below 0.001, cosines that differ by 0.01 have odds of e^10: each softmax is sure of one
    # candidate, right or wrong. The paper's settled near 1/64; CLIP's is stopped at 0.01.
    min_temperature: float = setting(1e-3, "the temperature is never lower")
    # Optimiser (section 5).
    optimizer: str = setting("lamb", "lamb or adamw")
    learning_rate: float = setting(1e-3, "at the end of the warm-up; then it falls to zero")
    schedule: str = setting("linear", "how it falls: linear or cosine")
    beta1: float = setting(0.9, "of lamb and adamw: what is kept of the mean of gradients")
    beta2: float = setting(0.0, "likewise of their squares; 0: 0.999 for lamb, 0.98 for adamw")
    weight_decay: float = setting(1e-5, "of all weights but biases and normalisations")
    max_gradient_norm: float = setting(0.0, "a longer gradient is made this long; 0: none is")
    warmup_steps: int = setting(10_000, "steps in which the learning rate rises from zero")
    steps: int = setting(1_200_000, "of the whole run", warns=True)
    epochs: float = setting(
        0.0, "passes over the data, in place of steps; 0: as many steps as steps says", warns=True
    )
    batch_size: int = setting(16_384, "pairs of a step, over all processes")
    micro_batch_size: int = setting(
        64,
        "pairs that go through the towers at once, on each process; where they are fewer than its "
        "share of batch_size, the gradients are cached",
        warns=True,
    )
    text_buckets: int = setting(
        0,
        "parts of a micro-batch, sorted by length, whose texts are padded to one length each; 0: 4 "
        "on a CPU, 1 on a GPU",
    )
    precision: str = setting(
        "auto",
        "of the towers: bf16, fp32 (TF32 on a GPU), highest (float32 throughout), or auto: bf16 on "
        "a GPU, fp32 on a CPU",
    )
    seed: int = setting(0, "of all random numbers")
    shuffle_samples: int = setting(10_000, "size of the buffer that the next sample is drawn from")
    # How it is run, not what is learned.
    max_skipped_share: float = setting(
        0.01,
        "share of bad samples, of all or of the first 1,000, beyond which the run ends",
        free=True,
    )
    max_skipped_steps: int = setting(
        20,
        "steps left out because their loss or gradient was not finite, beyond which the run ends",
        free=True,
    )
    check_memory: bool = setting(
        True, "refuse, before it starts, a run whose step does not fit into memory", free=True
    )
    compile: bool = setting(False, "have torch.compile make the step faster", free=True)
    checkpoint_activations: bool = setting(
        False, "compute what lies within a block twice, to take less memory", free=True
    )
    cached_images: int = setting(0, "decoded images to keep in memory", free=True)
    validate: str = setting(
        "",
        "shards that are not trained on, named as --shards has them, without weights: the model is "
        "scored on their pairs while it is trained; empty: none",
        free=True,
    )
    validate_every: int = setting(
        1_000, "steps between two validations; the last step has one too", free=True
    )
    # R@1 among 1,000 is what Flickr30K's and MSCOCO's smaller tables have too.
    validate_pairs: int = setting(
        1_000, "pairs that are validated on, at most: the first of --validate", free=True
    )
    validate_classes: str = setting(
        "",
        "a folder with a subfolder of images for each class, or a table of images and their "
        "classes, which each validation classifies by the classes' names; empty: none",
        free=True,
    )

    @property
    def kept_of_squares(self) -> float:
        """beta2, by the optimiser where none is given."""
        return self.beta2 or (0.999 if self.optimizer == "lamb" else 0.98)

    def __post_init__(self) -> None:
        check_fields(self, ALLOWED)
        if self.crop_px > self.resize_px:
            raise SettingsError(
                f"crop_px must be at most resize_px; got {self.crop_px} and {self.resize_px}"
            )
        if self.min_temperature > self.temperature:
            raise SettingsError(
                "min_temperature must be at most temperature; "
                f"got {self.min_temperature} and {self.temperature}"
            )

    def on(self, device: str) -> "Settings":
        """These, with all decided that follows the device, "cpu" or "cuda"."""
        gpu = device == "cuda"
        following = "bf16" if gpu else "fp32"
        return replace(
            self,
            precision=following if self.precision == "auto" else self.precision,
            text_buckets=self.text_buckets or (1 if gpu else 4),
        )

    def of_samples(self, samples: int) -> "Settings":
        """These, with as many steps as the epochs take over so many samples."""
        steps = max(1, math.ceil(self.epochs * samples / self.batch_size))
        return replace(self, steps=steps) if self.epochs else self

    def micro_batches(self, processes: int) -> tuple[int, int]:
        """How many micro-batches one of so many processes takes in a step, and their pairs.

        Raises:
          SettingsError: the batch cannot be shared out evenly.
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


# What the fields from one on are about, for the command's help.
GROUPS = {
    "start_from": "model",
    "resize_px": "images",
    "label_smoothing": "loss",
    "optimizer": "optimizer",
    "max_skipped_share": "how it is run, not what is learned",
}
ALLOWED: dict[str, Range | Collection[str]] = {
    "image_tower": IMAGE_TOWERS,
    "text_tower": TEXT_TOWERS,
    "freeze": ("", "image", "text"),
    "optimizer": ("lamb", "adamw"),
    "schedule": ("linear", "cosine"),
    "precision": ("auto", "bf16", "fp32", "highest"),
    "device": ("auto", "cpu", "cuda"),
    **dict.fromkeys(("vocabulary_size", "resize_px", "crop_px", "steps", "batch_size"), COUNT),
    **dict.fromkeys(("micro_batch_size", "batch_norm_group_size", "tokenizer_texts"), COUNT),
    **dict.fromkeys(("shuffle_samples", "decode_threads", "log_every"), COUNT),
    **dict.fromkeys(("checkpoint_every", "keep_checkpoints"), COUNT),
    **dict.fromkeys(("validate_every", "validate_pairs"), COUNT),
    **dict.fromkeys(("weight_decay", "warmup_steps", "cached_images", "seed"), NOT_NEGATIVE),
    **dict.fromkeys(("samples_every", "max_gradient_norm", "max_skipped_steps"), NOT_NEGATIVE),
    **dict.fromkeys(("text_buckets", "epochs"), NOT_NEGATIVE),
    **dict.fromkeys(("temperature", "min_temperature", "learning_rate"), POSITIVE),
    **dict.fromkeys(
        ("drop_path", "text_dropout", "label_smoothing", "max_skipped_share", "beta1", "beta2"),
        FRACTION,
    ),
    "max_tokens": Range(3, 513, "3 to 512"),
    "batch_norm_momentum": MOMENTUM,
}
