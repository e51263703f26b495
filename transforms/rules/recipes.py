"""The rules of well-known datasets, as values of our flags.

What our rules cannot say is left out: DataComp's least of 6 characters; of COYO, 5 to 1,000
characters, one of equal pHash and text, and the rules on nouns, bad words and the bytes of a file.

Source: Gadre et al. 2023, section 4 ("basic filtering"), and the data card of COYO-700M. Our
detector tells English in both.
"""

from collections.abc import Mapping

from alignset.transforms.rules.catalogue import PRODUCT

_SIZES = {"language": "en", "min_words": 3, "min_image_side": 200, "max_image_aspect": 3.0}
_DATACOMP = {**PRODUCT.opened, **_SIZES}
_COYO = {"max_words": 256, "max_images_per_text": 10, "max_unsafe_score": 0.5}
RECIPES: Mapping[str, Mapping[str, object]] = {
    "align": {},
    "datacomp-basic": _DATACOMP,
    "coyo": _DATACOMP | _COYO,
    "none": PRODUCT.opened,
}
