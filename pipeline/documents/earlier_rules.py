"""What the sets that a set was made of had filtered already, for the card and the datasheet.

Their manifests may be anybody's, so whatever is taken of them is shown as code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import UnsetType

from alignset.pipeline.datasets.sizes_and_days import as_code
from alignset.pipeline.runs.documents import Manifest, Settings
from alignset.pipeline.shown_texts import counted
from alignset.transforms.decontamination.overlap_settings import EvaluationSet

Earlier = Mapping[str, Manifest]  # by the folder that they are in


def with_images(earlier: Earlier) -> dict[str, Manifest]:
    """Those whose own images came along: neither they nor a set between are of texts alone."""
    texts = [folder for folder, manifest in earlier.items() if manifest.job.get("text_only")]
    return {
        folder: manifest
        for folder, manifest in earlier.items()
        if not any(f"{folder}/".startswith(f"{of_texts}/") for of_texts in texts)
    }


def earlier_evaluation(earlier: Earlier) -> list[str]:
    """With which evaluation images each set was compared, in Markdown; without those with none."""
    lines = []
    for folder, manifest in with_images(earlier).items():
        if manifest.evaluation_images:
            overlap: Settings = {} if isinstance(manifest.overlap, UnsetType) else manifest.overlap
            sets = ", ".join(_counted(*item) for item in manifest.evaluation_images.items())
            lines.append(
                f"{as_code(folder)}, at a distance below "
                f"{_rule(manifest, 'min_evaluation_distance')} by the measure "
                f"{as_code(str(overlap.get('measure', 'phash')))}: {sets}"
            )
    return lines


def _counted(name: str, of_set: EvaluationSet) -> str:
    unreadable = f", and {of_set.unreadable:,} that could not be decoded"
    tail = unreadable if of_set.unreadable else ""
    return f"{as_code(name)} ({counted(of_set.images, 'image')}{tail})"


def earlier_scores(earlier: Earlier) -> str:
    """As "`history/00` dropped images with a score above `0.5` by `nsfw.onnx`"; "" for none."""
    return "; ".join(
        f"{as_code(folder)} dropped images with a score above "
        f"{_rule(manifest, 'max_unsafe_score')} by {as_code(manifest.unsafe_model.path)}"
        for folder, manifest in with_images(earlier).items()
        if not isinstance(manifest.unsafe_model, UnsetType)
    )


def earlier_blocklists(earlier: Earlier) -> list[str]:
    """The blocklists of each set that had some, in Markdown."""
    return [
        f"{as_code(folder)}: {', '.join(as_code(of_list.name) for of_list in manifest.blocklists)}"
        for folder, manifest in earlier.items()
        if not isinstance(manifest.blocklists, UnsetType) and manifest.blocklists
    ]


def earlier_vocabularies(earlier: Earlier) -> list[str]:
    """How many unigrams and bigrams each set's texts were kept by, in Markdown."""
    return [
        f"{as_code(folder)}: {manifest.vocabulary.vocabulary:,}"
        + (" of an earlier run" if manifest.given_vocabulary else "")
        for folder, manifest in earlier.items()
    ]


def earlier_fetches(earlier: Earlier) -> Iterator[tuple[str, str, str]]:
    """When each set's images were fetched: its folder, the first and the last day."""
    for folder, manifest in with_images(earlier).items():
        if not isinstance(manifest.fetched, UnsetType):
            yield as_code(folder), as_code(manifest.fetched.first), as_code(manifest.fetched.last)


def _rule(manifest: Manifest, name: str) -> str:
    return as_code(str(manifest.rules.get(name, "?")))
