"""Every number of a training run, in one frozen dataclass."""

import math
from dataclasses import Field, dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

from alignset.settings import Allowed, Checked, above, between, one_of, setting
from alignset.train.errors import SettingsError
from alignset.train.towers import IMAGE_TOWERS, TEXT_TOWERS

COUNT = between(1, words="at least 1")
NOT_NEGATIVE = between(0, words="at least 0 and finite")
POSITIVE = above(0, words="larger than 0 and finite")
FRACTION = between(0, math.nextafter(1, 0), "at least 0 and below 1")
SHARE = between(math.ulp(0.0), 1, "larger than 0 and at most 1")
MOMENTUM = between(math.ulp(0.0), math.nextafter(1, 0), "larger than 0 and below 1")
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

    device: str = free(
        "auto",
        "cpu, cuda, or auto: a GPU where there is one",
        allowed=choice("auto", "cpu", "cuda"),
        group=HOW_IT_IS_RUN,
    )
    decode_threads: int = free(8, "threads that decode images", allowed=COUNT)
    log_every: int = free(100, "steps between two reports", allowed=COUNT)
    samples_every: int = free(
        1_000, "steps between two looks at what is trained on; 0: none", allowed=NOT_NEGATIVE
    )
    trackers: str = free(
        "tensorboard", "what gets the run's numbers: tensorboard, your own as module:name; commas"
    )
    checkpoint_every: int = free(1_000, "steps between two checkpoints", allowed=COUNT)
    keep_checkpoints: int = free(2, "checkpoints to keep", allowed=COUNT)

    def check(self) -> None:
        for name in filter(None, self.trackers.split(",")):
            if name != "tensorboard" and ":" not in name:
                raise SettingsError(
                    f"there is no tracker {name!r} here: pass tensorboard, or a class of your own "
                    "as --trackers=module:name; docs/training.md shows one for Weights & Biases"
                )


def ordered_fields(kind: type[Checked]) -> list[Field[Any]]:
    """Lists the fields of settings as the help has them: its own, then inherited ones."""
    inherited = {of.name for base in kind.__mro__[1:] if is_dataclass(base) for of in fields(base)}
    return sorted(fields(kind), key=lambda field: field.name in inherited)


@dataclass(frozen=True)
class Settings(RunSettings):
    """One training run. Each field is also a flag of `alignset train`. Defaults: the paper's."""

    # Model (sections 4.1 and 5).
    start_from: str = setting(
        "",
        "the AlignModel to continue from, a folder or a published one's name, in place of "
        "image_tower, text_tower, text_dropout, vocabulary_size and temperature; empty: from "
        "scratch. An EfficientNet or a BERT alone: image_weights, text_weights; no CLIP",
        group="model",
        brings="image_tower text_tower image_weights text_weights text_dropout tokenizer "
        "tokenizer_texts vocabulary_size temperature",
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
        brings="tokenizer_texts vocabulary_size",
    )
    freeze: str = setting(
        "",
        "the tower that is not trained: image or text; empty: none",
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
        "a fast tokenizer of any kind (WordPiece, BPE, Unigram), a folder or a published one's "
        "name; empty: learned on the texts",
        brings="tokenizer_texts vocabulary_size",
    )
    vocabulary_size: int = setting(100_000, "WordPieces of the tokenizer, at most", allowed=COUNT)
    tokenizer_texts: int = setting(
        1_000_000,
        "texts that the tokenizer is learned of, at most, as many of each shard",
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
        "field of KEY.json with the text, or a list of texts; each epoch uses the next one; "
        "empty: KEY.txt has it",
    )
    caption_lines: bool = setting(
        False, "each line of a text is a caption; each epoch uses the next one"
    )
    # Loss (section 4.1).
    label_smoothing: float = setting(
        0.1, "share of a label that is spread over the batch", allowed=FRACTION, group="loss"
    )
    temperature: float = setting(
        1.0, "of the softmax at the first step; it is learned", allowed=POSITIVE
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
        "linear", "how it falls: linear or cosine", allowed=choice("linear", "cosine")
    )
    beta1: float = setting(
        0.9, "of lamb and adamw: what is kept of the mean of gradients", allowed=FRACTION
    )
    beta2: float = setting(
        0.0, "likewise of their squares; 0: 0.999 for lamb, 0.98 for adamw", allowed=FRACTION
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
        "passes over the data, in place of steps; 0: as many steps as steps says",
        warns=True,
        allowed=NOT_NEGATIVE,
    )
    batch_size: int = setting(16_384, "pairs of a step, over all processes", allowed=COUNT)
    micro_batch_size: int = setting(
        64,
        "pairs that go through the towers at once, on each process; where they are fewer than its "
        "share of batch_size, the gradients are cached",
        warns=True,
        allowed=COUNT,
    )
    text_buckets: int = setting(
        0,
        "parts of a micro-batch, sorted by length, whose texts are padded to one length each; 0: 4 "
        "on a CPU, 1 on a GPU",
        allowed=NOT_NEGATIVE,
    )
    precision: str = setting(
        "auto",
        "of the towers: bf16, fp32 (TF32 on a GPU), highest (float32 throughout), or auto: bf16 on "
        "a GPU, fp32 on a CPU",
        allowed=choice("auto", "bf16", "fp32", "highest"),
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
    max_skipped_steps: int = free(
        20,
        "steps left out because their loss or gradient was not finite, beyond which the run ends",
        allowed=NOT_NEGATIVE,
    )
    check_memory: bool = free(
        True, "refuse, before it starts, a run whose step does not fit into memory"
    )
    compile: bool = free(False, "have torch.compile make the step faster")
    checkpoint_activations: bool = free(
        False, "compute what lies within a block twice, to take less memory"
    )
    cached_images: int = free(0, "decoded images to keep in memory", allowed=NOT_NEGATIVE)
    validate: str = free(
        "",
        "shards that are not trained on, named as --shards has them, without weights: the model is "
        "scored on their pairs while it is trained; empty: none",
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
        "a folder with a subfolder of images for each class, or a table of images and their "
        "classes, which each validation classifies by the classes' names; empty: none",
        needs="validate",
    )

    @property
    def kept_of_squares(self) -> float:
        """beta2, by the optimiser where none is given."""
        return self.beta2 or (0.999 if self.optimizer == "lamb" else 0.98)

    def check(self) -> None:
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
