"""What the bytes of an image wish, and which licence they state."""

from __future__ import annotations

from typing import NamedTuple

from alignset.transforms.columns.opt_outs import C2PA, XMP_DATA_MINING
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.wishes.c2pa import forbids_training
from alignset.transforms.wishes.embedded import embedded
from alignset.transforms.wishes.wish_settings import WishSettings
from alignset.transforms.wishes.xmp import NO_TERMS, xmp_terms
from alignset.transforms.workers.unexpected import tell_once


class FileWishes(NamedTuple):
    """Attributes:
    opt_outs: details of `opted_out`, in their order.
    web_statement, usage_terms: where and how the licence is stated, in XMP.
    """

    opt_outs: tuple[str, ...] = ()
    web_statement: str | None = None
    usage_terms: str | None = None


_NONE = FileWishes()


def file_wishes(look: FileLook, settings: WishSettings) -> FileWishes:
    """What a file says. Raises nothing, whatever it is; may be called by many threads."""
    try:
        parts = embedded(look)
        if not parts.xmp and not parts.c2pa:
            return _NONE
        terms = xmp_terms(parts.xmp) if parts.xmp else NO_TERMS
        opt_outs = []
        if terms.prohibited and settings.xmp_data_mining:
            opt_outs.append(XMP_DATA_MINING)
        if settings.c2pa and parts.c2pa and forbids_training(parts.c2pa):
            opt_outs.append(C2PA)
        return FileWishes(tuple(opt_outs), terms.web_statement, terms.usage_terms)
    except Exception as error:
        tell_once("looking for wishes in a file", error)
        return _NONE
