"""Every number of a training run, in one frozen dataclass."""

from dataclasses import dataclass

from train.errors import SettingsError
from train.ranges import COUNT, FRACTION, MOMENTUM, NOT_NEGATIVE, POSITIVE, check_fields, free
from train.towers import IMAGE_TOWERS, TEXT_TOWERS


@dataclass(frozen=True)
class Settings:
    """One training run. Each field is also a flag of `python -m train`. Defaults: the paper's."""

    # The AlignModel to go on with: a folder, or a published one's name; empty: from scratch, with
    # the towers, the text dropout, the vocabulary and the temperature below.
    start_from: str = ""
    # Model (sections 4.1 and 5): names in train/towers.py.
    image_tower: str = "b7"
    text_tower: str = "base"
    vocabulary_size: int = 100_000
    max_tokens: int = 64
    drop_path: float = 0.2
    text_dropout: float = 0.1
    # BatchNorm: the images of one core of the paper's TPU (16,384 on 1,024), and the weight of a
    # *new* step in the running statistics: PyTorch's sense, 1 - TensorFlow's 0.99.
    batch_norm_group_size: int = 16
    batch_norm_momentum: float = 0.01
    # Images (section 5): resized to resize_px squares, then a crop of crop_px.
    resize_px: int = 346
    crop_px: int = 289
    horizontal_flip: bool = True
    # Whether each line of a text is a caption; an epoch takes one of them, the next the next.
    caption_lines: bool = False
    # Loss (section 4.1).
    label_smoothing: float = 0.1
    temperature: float = 1.0
    # Below 0.001, cosines that differ by 0.01 have odds of e^10: each softmax is sure of one
    # candidate, right or wrong. The paper's settled near 1/64; CLIP's is stopped at 0.01.
    min_temperature: float = 1e-3
    # Optimiser (section 5). batch_size counts pairs over all processes.
    optimizer: str = "lamb"
    learning_rate: float = 1e-3
    weight_decay: float = 1e-5
    warmup_steps: int = 10_000
    steps: int = 1_200_000
    batch_size: int = 16_384
    # Pairs that go through the towers at once, on each process. Where they are fewer than a
    # process's share of batch_size, the gradients are cached (train/step.py).
    micro_batch_size: int = 64
    # Texts of a micro-batch, sorted by length, are padded to the longest of their bucket.
    text_buckets: int = 4
    precision: str = "fp32"
    seed: int = 0
    shuffle_samples: int = 10_000
    # How it is run, not what is learned.
    # Of all samples, beyond which bad ones end the run; of fewer than 1,000 it is that of 1,000.
    max_skipped_share: float = free(0.01)
    compile: bool = free(False)
    cached_images: int = free(0)
    decode_threads: int = free(8)
    log_every: int = free(100)
    samples_every: int = free(1_000)  # steps between two looks at what is trained on; 0: none
    trackers: str = free("tensorboard")  # comma-separated, as module:name
    checkpoint_every: int = free(1_000)
    keep_checkpoints: int = free(2)

    def __post_init__(self):
        check_fields(self, _RANGES, _NAMES)
        if self.crop_px > self.resize_px:
            raise SettingsError(
                f"crop_px must be at most resize_px; got {self.crop_px} and {self.resize_px}"
            )
        if self.min_temperature > self.temperature:
            raise SettingsError(
                "min_temperature must be at most temperature; "
                f"got {self.min_temperature} and {self.temperature}"
            )

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


_NAMES = {
    "image_tower": IMAGE_TOWERS,
    "text_tower": TEXT_TOWERS,
    "optimizer": ("lamb", "adamw"),
    "precision": ("fp32", "bf16"),
}
_RANGES = {
    **dict.fromkeys(("vocabulary_size", "resize_px", "crop_px", "steps", "batch_size"), COUNT),
    **dict.fromkeys(("micro_batch_size", "batch_norm_group_size", "text_buckets"), COUNT),
    **dict.fromkeys(("shuffle_samples", "decode_threads", "log_every"), COUNT),
    **dict.fromkeys(("checkpoint_every", "keep_checkpoints"), COUNT),
    **dict.fromkeys(("weight_decay", "warmup_steps", "cached_images", "seed"), NOT_NEGATIVE),
    "samples_every": NOT_NEGATIVE,
    **dict.fromkeys(("temperature", "min_temperature", "learning_rate"), POSITIVE),
    **dict.fromkeys(
        ("drop_path", "text_dropout", "label_smoothing", "max_skipped_share"), FRACTION
    ),
    "max_tokens": (3, 513, "3 to 512"),
    "batch_norm_momentum": MOMENTUM,
}
