"""The named sets of a run's numbers: the paper's ablation, and ours for smaller machines."""

from dataclasses import replace

from alignset.train.settings import Settings

PAPER = Settings()
"""ALIGN's recipe (Jia et al., 2021, sections 4 and 5): 1.2M steps of 16,384 pairs with LAMB, of
EfficientNet-L2 + BERT-Large there. Each number's section stands beside it in train/settings.py."""

# Pairs that go through an image tower at once on an 80 GB GPU: they fit by a rough bound
# (train/start.py), and how fast they are was not measured.
_AT_ONCE = {"b1": 256, "b3": 128, "b5": 64, "b7": 64, "l2": 16}

ABLATION = {
    f"{image}-{text}": replace(
        PAPER, image_tower=image, text_tower=text, micro_batch_size=at_once, steps=1_000_000
    )
    for image, at_once in _AT_ONCE.items()
    for text in ("mini", "medium", "base", "large")
}
"""The paper's ablation of both towers' sizes (section 6.1): PAPER with 1M steps.

    torchrun --nproc_per_node=8 -m alignset.train --shards OUT/shards --output R --preset b1-mini

Published for b7-base (section 6.3): MSCOCO zero-shot R@1 55.4 image to text and 41.7 text to image,
ImageNet KNN 69.3; for the others figure 3 has bars, no numbers. Not run by us: they need 1.8
billion pairs and hundreds of accelerators.
"""

L2_LARGE = replace(ABLATION["l2-large"], steps=PAPER.steps)
"""The paper's main model, EfficientNet-L2 + BERT-Large (sections 4.1 and 5).

    torchrun --nproc_per_node=8 -m alignset.train --shards OUT/shards --output R --preset l2-large

Published: R@1 on Flickr30K zero-shot 88.6 / 75.7, on MSCOCO 58.6 / 45.6 (table 1); ImageNet
zero-shot 76.4 (table 4). Not run by us.
"""

MULTILINGUAL = replace(L2_LARGE, vocabulary_size=250_000)
"""The paper's model of all languages (section 8): the same towers and recipe, and a vocabulary of
250k wordpieces. For a dataset that `alignset curate --language=all` made.

    alignset train --shards OUT/shards --output RUNS/a --preset multilingual

Published: the mean recall on Multi30K, zero-shot, is 90.2 in English, 84.1 in German, 84.9 in
French and 63.2 in Czech (table 11). Not run by us.
"""

ONE_GPU = replace(
    PAPER,
    image_tower="b3",
    text_tower="medium",
    vocabulary_size=32_000,
    resize_px=256,
    crop_px=224,
    temperature=0.07,
    warmup_steps=1_000,
    steps=50_000,
    batch_size=4_096,
    micro_batch_size=128,
)
"""For one GPU of 24 GB or more and some ten million pairs: 200 million pairs seen. By a rough
bound (train/start.py) a step takes 15 GB, and with 256 pairs at once 29 GB.

    alignset train --shards OUT/shards --output RUNS/gpu --preset one-gpu

The paper's recipe with a batch, towers and images that a GPU takes in days; not run by us, who
had none. The temperature starts at CLIP's 0.07, which costs no steps to be found.
"""

LAPTOP = replace(
    PAPER,
    image_tower="b0",
    text_tower="mini",
    vocabulary_size=10_000,
    drop_path=0.1,
    batch_norm_momentum=0.05,
    resize_px=144,
    crop_px=128,
    temperature=0.07,
    optimizer="adamw",
    weight_decay=0.05,
    warmup_steps=200,
    steps=4_000,
    batch_size=256,
    micro_batch_size=64,
    text_buckets=4,
    precision="fp32",
    decode_threads=2,
    log_every=20,
    checkpoint_every=100,
    validate_every=100,
)
"""For a night on a CPU and a hundred thousand pairs: a million pairs seen, by gradient caching.

    alignset train --shards OUT/shards --output RUNS/laptop --preset laptop

Its towers are the smallest of the paper's kind. Not run by us.
"""

TINY = replace(
    PAPER,
    image_tower="tiny",
    text_tower="tiny",
    vocabulary_size=2_000,
    max_tokens=32,
    drop_path=0.0,
    text_dropout=0.0,
    batch_norm_momentum=0.1,
    resize_px=72,
    crop_px=64,
    horizontal_flip=False,
    temperature=0.1,
    optimizer="adamw",
    learning_rate=2e-3,
    weight_decay=0.05,
    warmup_steps=40,
    steps=400,
    batch_size=128,
    micro_batch_size=128,
    batch_norm_group_size=128,
    shuffle_samples=4_096,
    cached_images=8_000,
    text_buckets=4,
    precision="fp32",
    decode_threads=2,
    log_every=50,
    samples_every=200,
    checkpoint_every=200,
    validate_every=100,
)
"""For the demo's thousands of scenes of coloured shapes, about 90 s on 2 idle CPU cores.

    alignset train --shards OUT/shards --output RUNS/tiny --preset tiny

Seen on the demo's web: R@1 76.0 and 72.5 among 200 unseen combinations (chance 0.5). `make demo`
takes half of the steps, and reaches 65.5 and 63.5. Where things lie is not learned: on an earlier
web of the demo, a text beat its twin with the opposite relation ("above" for "below") for 91 of 200
images.

No flip: "left of" and "right of" would change places. BatchNorm's momentum is not the paper's 0.01,
which needs thousands of steps: after 450 it gave R@1 0.5 (chance) where 0.1 gave 89, from the same
weights; with the running statistics measured afresh they gave 89 too. AdamW, and a temperature
that starts near where it ends, because there are no steps to spare for finding it.
"""

FLICKR30K = replace(
    PAPER,
    learning_rate=1e-5,
    warmup_steps=0,
    steps=3_000,
    batch_size=2_048,
    caption_lines=True,
)
"""Retrieval fine-tuning on Flickr30K's 30 thousand training images (section 5.1).

    alignset train --preset flickr30k --start_from kakaobrain/align-base --shards F --output RUNS/f
Published, from L2 + Large: R@1 95.3 image to text, 84.9 text to image. Not run by us.
"""

MSCOCO = replace(FLICKR30K, steps=6_000)
"""The same on MSCOCO's 82 thousand training and 30 thousand validation images.

Published, from L2 + Large: R@1 77.0 image to text, 59.9 text to image. Not run by us.
"""

PRESETS = {
    "tiny": TINY,
    "laptop": LAPTOP,
    "one-gpu": ONE_GPU,
    **ABLATION,
    "l2-large": L2_LARGE,
    "multilingual": MULTILINGUAL,
    "flickr30k": FLICKR30K,
    "mscoco": MSCOCO,
}
