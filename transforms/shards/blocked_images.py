"""Images that are on a blocklist, by the hashes of their files and of their pictures."""

from __future__ import annotations

from alignset.transforms.blocklists import kinds as k
from alignset.transforms.blocklists.blocklists import Blocklists, word_of
from alignset.transforms.images.examine import Image, examine
from alignset.transforms.images.file_look import FileLook
from alignset.transforms.images.pdq import pdq_words
from alignset.transforms.workers.unexpected import tell_once


def blocked_by(lists: Blocklists, look: FileLook, sha256: bytes, image: Image) -> str | None:
    """Which list an image is on, such as "takedowns.txt:sha256", or None. For all threads.

    Args:
      sha256: of the file. image: what `examine` said of it.
    """
    if not lists.have(*k.OF_FILES, *k.OF_PICTURES):
        return None
    return lists.of_file(sha256, look.body) or _like_one(lists, look, image)


def _like_one(lists: Blocklists, look: FileLook, image: Image) -> str | None:
    try:
        return (_by_phash(lists, look, image) if lists.have(k.PHASH) else None) or (
            _by_pdq(lists, look.body, image) if lists.have(k.PDQ) else None
        )
    except ModuleNotFoundError:
        raise
    except Exception as error:  # a picture that was decoded before
        tell_once("comparing an image with a blocklist", error)
        return None


def _by_phash(lists: Blocklists, look: FileLook, image: Image) -> str | None:
    """By the hash of a JPEG's plane, and where that is not far off, of the whole picture."""
    near = lists.near(k.PHASH, word_of(image.phash), k.QUICK_ERROR)
    if near is None or near[1] < lists.min_phash_distance:
        return near and near[0]
    whole = examine(look, in_full=True) if image.format == "jpeg" else None
    near = lists.near(k.PHASH, word_of(whole.phash)) if isinstance(whole, Image) else None
    return near and near[0]


def _by_pdq(lists: Blocklists, body: bytes, image: Image) -> str | None:
    words = pdq_words(body, image)
    near = None if words is None else lists.near(k.PDQ, words)
    return near and near[0]
