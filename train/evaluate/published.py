"""Results that were published, to stand beside a model's own. In percent.

Sources: Jia et al., 2021, tables 1, 4 and section 5 (ALIGN, EfficientNet-L2 and BERT-Large, 1.8
billion pairs); the README of kakaobrain/coyo-align (COYO-ALIGN, EfficientNet-B7 and BERT-Base, 700
million pairs; and the paper's ablation with the same towers, ALIGN B7-Base). What COYO-ALIGN calls
ImageNet KNN is `knn` with one neighbour; the paper's 76.4 beside it there is its zero-shot result.
"""

ALIGN, ALIGN_B7, COYO_ALIGN = "ALIGN", "ALIGN B7-Base", "COYO-ALIGN B7-Base"
MODELS = (ALIGN, ALIGN_B7, COYO_ALIGN)
_I2T, _T2I = "image_to_text R@1", "text_to_image R@1"

# By task and set, then by metric, then by model. "-finetuned" is of a model that was trained on the
# set too, and evaluated by the same command.
PUBLISHED: dict[tuple[str, str], dict[str, dict[str, float]]] = {
    ("zero_shot", "imagenet"): {"top1": {ALIGN: 76.4}},
    ("zero_shot", "imagenet-a"): {"top1": {ALIGN: 75.8}},
    ("zero_shot", "imagenet-r"): {"top1": {ALIGN: 92.2}},
    ("zero_shot", "imagenet-v2"): {"top1": {ALIGN: 70.1}},
    ("knn", "imagenet"): {"top1": {ALIGN_B7: 69.3, COYO_ALIGN: 68.6}},
    ("retrieval", "flickr30k"): {
        _I2T: {ALIGN: 88.6, COYO_ALIGN: 88.1},
        _T2I: {ALIGN: 75.7, COYO_ALIGN: 73.2},
    },
    ("retrieval", "flickr30k-finetuned"): {_I2T: {ALIGN: 95.3}, _T2I: {ALIGN: 84.9}},
    ("retrieval", "mscoco"): {
        _I2T: {ALIGN: 58.6, ALIGN_B7: 55.4, COYO_ALIGN: 61.2},
        _T2I: {ALIGN: 45.6, ALIGN_B7: 41.7, COYO_ALIGN: 43.1},
    },
    ("retrieval", "mscoco-finetuned"): {_I2T: {ALIGN: 77.0}, _T2I: {ALIGN: 59.9}},
    ("segmentation", "ade20k"): {"mean_iou": {ALIGN: 9.7}},
}
