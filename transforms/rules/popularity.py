"""Texts that many images share, and images of many texts (ALIGN, section 3)."""

from alignset.transforms.rules.rule import Given, OfCorpus, Stage

MAX_IMAGES_PER_TEXT = OfCorpus(
    name="max_images_per_text",
    default=10,
    help="images that share an alt-text, at most; otherwise its pairs are dropped",
    reason="text_on_too_many_images",
    step="images_per_text",
    means="the alt-text belongs to too many images",
    makes="frequent_texts",
    of=lambda rows, frequent: frequent.contains(rows["text_hash"]),
    opened=1_000_000_000,
)
MAX_TEXTS_PER_IMAGE = OfCorpus(
    name="max_texts_per_image",
    default=1000,
    help="alt-texts of an image, at most; otherwise its pairs are dropped",
    reason="image_with_too_many_texts",
    step="texts_per_image",
    means="the image has too many alt-texts",
    makes="crowded_images",
    of=lambda rows, images: images.contains(rows["url_hash"]),
    opened=1_000_000_000,
)
# The same of all URLs whose files are equal, once these have come.
TEXTS_OF_CONTENT = Given(
    reason=MAX_TEXTS_PER_IMAGE.reason,
    step="texts_per_content",
    stage=Stage.DATASET,
    means="the images with [its bytes](duplicates.md#placeholders) have too many alt-texts",
)
