"""Results that were published, in percent, to set beside one's own.

Sources: Jia et al., 2021 (ALIGN: EfficientNet-L2 and BERT-Large, 1.8 billion pairs), by table; the
README of kakaobrain/coyo-align (COYO-ALIGN: EfficientNet-B7 and BERT-Base, 700 million pairs; and
the paper's model with the same towers, ALIGN B7-Base). The ImageNet KNN of COYO-ALIGN is `knn` with
one neighbour; the paper's 76.4 beside it there is its zero-shot result.
"""

from alignset.train.errors import SettingsError

ALIGN, ALIGN_B7, COYO_ALIGN = "ALIGN", "ALIGN B7-Base", "COYO-ALIGN B7-Base"
MULTILINGUAL, M3P = "ALIGN multilingual", "M3P"
Scores = dict[str, float]  # by metric: its path in a result


def _recalls(image_to_text: str, text_to_image: str, before: str = "") -> Scores:
    """Published R@1, R@5 and R@10 in each direction."""
    return {
        f"{before}{way} R@{k}": float(value)
        for way, values in (("image_to_text", image_to_text), ("text_to_image", text_to_image))
        for k, value in zip((1, 5, 10), values.split(), strict=True)
    }


def _ablation(image_to_text: float, text_to_image: float) -> Scores:
    return {"image_to_text R@1": image_to_text, "text_to_image R@1": text_to_image}


def _by_language(**means: float) -> Scores:
    return {f"languages {code} mean_recall": mean for code, mean in means.items()}


def _words(*values: float) -> Scores:
    names = ("adjectives", "nouns", "verbs", *(f"concreteness {i}" for i in (1, 2, 3, 4)), "hard")
    paths = ["spearman", *(f"parts {name} spearman" for name in names)]
    return dict(zip(paths, values, strict=True))


# By task and set, then by model. "-finetuned" is of a model that was trained on the dataset too,
# and is evaluated by the same command.
PUBLISHED: dict[tuple[str, str], dict[str, Scores]] = {
    # Table 1
    ("retrieval", "flickr30k"): {
        ALIGN: _recalls("88.6 98.7 99.7", "75.7 93.8 96.8"),
        COYO_ALIGN: _ablation(88.1, 73.2),
    },
    ("retrieval", "flickr30k-finetuned"): {ALIGN: _recalls("95.3 99.8 100.0", "84.9 97.4 98.6")},
    # Table 1, and table 10: B7 and BERT-Base on fewer pairs
    ("retrieval", "mscoco"): {
        ALIGN: _recalls("58.6 83.0 89.7", "45.6 69.8 78.6"),
        ALIGN_B7: _ablation(55.4, 41.7),
        COYO_ALIGN: _ablation(61.2, 43.1),
        "ALIGN 12M pairs": _ablation(23.8, 17.5),
        "ALIGN 6M pairs": _ablation(15.8, 11.9),
        "ALIGN 3M pairs": _ablation(8.1, 6.3),
        "CC-3M": _ablation(18.9, 15.5),
    },
    ("retrieval", "mscoco-finetuned"): {ALIGN: _recalls("77.0 93.5 96.9", "59.9 83.3 89.8")},
    # Tables 2 and 3, of a model that was fine-tuned on MSCOCO
    ("crisscrossed", "crisscrossed"): {
        ALIGN: _recalls("78.1 94.3 97.4", "61.8 84.9 91.1", "retrieval ")
        | {
            f"retrieval {way} R@{k}": value
            for way, values in (
                ("text_to_text", (45.4, 66.8, 75.2)),
                ("image_to_image", (49.4, 81.4, 89.1)),
            )
            for k, value in zip((1, 5, 10), values, strict=True)
        }
        | {
            f"correlation {kind} spearman": value
            for kind, value in (("sts", 72.9), ("sis", 77.2), ("sits", 67.6))
        }
    },
    # Table 4
    ("zero_shot", "imagenet"): {ALIGN: {"top1": 76.4}},
    ("zero_shot", "imagenet-a"): {ALIGN: {"top1": 75.8}},
    ("zero_shot", "imagenet-r"): {ALIGN: {"top1": 92.2}},
    ("zero_shot", "imagenet-v2"): {ALIGN: {"top1": 70.1}},
    # Table 5: a linear layer over frozen features
    ("probe", "imagenet"): {ALIGN: {"top1": 85.5}},
    # Table 10
    ("knn", "imagenet"): {
        ALIGN_B7: {"R@1": 69.3},
        COYO_ALIGN: {"R@1": 68.6},
        "ALIGN 12M pairs": {"R@1": 51.4},
        "ALIGN 6M pairs": {"R@1": 47.9},
        "ALIGN 3M pairs": {"R@1": 41.3},
        "CC-3M": {"R@1": 48.7},
    },
    # Table 11, zero-shot
    ("retrieval", "multi30k"): {
        MULTILINGUAL: _by_language(en=90.2, de=84.1, fr=84.9, cs=63.2),
        ALIGN: _by_language(en=92.2),
        M3P: _by_language(en=57.9, de=36.8, fr=27.1, cs=20.4),
    },
    # Table 12
    ("words", "simlex999"): {ALIGN: _words(39.8, 49.8, 45.9, 16.6, 23.9, 41.7, 47.6, 57.8, 31.7)},
    ("segmentation", "ade20k"): {ALIGN: {"mean_iou": 9.7}},
}


def published_scores(task: str, name: str) -> dict[str, Scores]:
    """Published results of a dataset, by model.

    Raises:
      SettingsError: nothing was.
    """
    if (task, name) not in PUBLISHED:
        names = [of for of_task, of in PUBLISHED if of_task == task]
        hint = f"there is {', '.join(names)}" if names else "nothing is known of this task"
        raise SettingsError(f"--compare_published={name!r:.100}: {hint}")
    return PUBLISHED[task, name]


def in_one_line(scores: dict[str, Scores], metric: str) -> str:
    """The models with a number for a metric, as "ALIGN 76.4, CC-3M 48.7"."""
    return ", ".join(f"{model} {own[metric]:g}" for model, own in scores.items() if metric in own)
