"""The named sets of a run's numbers: the paper's ablation, and ours for smaller machines."""

from dataclasses import replace

from train.settings import Settings

B7_BASE = Settings()
"""ALIGN's own recipe (Jia et al., 2021, sections 4 and 5) at the size most ablations use.

EfficientNet-B7 + BERT-Base; 1.2M steps of 16,384 pairs with LAMB.
    torchrun --nproc_per_node=8 -m -- train --shards OUT/shards --run RUNS/b7 --preset b7-base
Not run by us: it needs 1.8 billion pairs and hundreds of accelerators.
"""

L2_LARGE = replace(B7_BASE, image_tower="l2", text_tower="large")
"""The paper's largest model, EfficientNet-L2 + BERT-Large (sections 4.1 and 5).

Published: R@1 on Flickr30K zero-shot 88.6 / 75.7, ImageNet zero-shot 76.4. Not run by us.
"""

TINY = replace(
    B7_BASE,
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
    decode_threads=2,
    log_every=50,
    samples_every=200,
    checkpoint_every=200,
)
"""For `make demo`: some thousand scenes of coloured shapes, about 90 s on 2 idle CPU cores.

    python -m train --shards OUT/shards --run RUNS/tiny --preset tiny

Seen on the demo's 3,771 kept pairs: R@1 85.5 in both directions among 200 unseen combinations
(chance 0.5). Where things lie is not learned: a text beat its twin with the opposite relation
("above" for "below") for 91 of 200 images.

No flip: "left of" and "right of" would change places. BatchNorm's momentum is not the paper's 0.01,
which needs thousands of steps: after 450 it gave R@1 0.5 (chance) where 0.1 gave 89, from the same
weights; with the running statistics measured afresh they gave 89 too. AdamW, and a temperature
that starts near where it ends, because there are no steps to spare for finding it.
"""

PRESETS = {"tiny": TINY, "b7-base": B7_BASE, "l2-large": L2_LARGE}
