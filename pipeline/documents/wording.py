"""Sentences that card and Croissant file share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import jinja2
from msgspec import UnsetType

from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.reproduce import open_flag
from alignset.pipeline.datasets.sizes_and_days import Contents
from alignset.pipeline.datasets.summary import copies_text
from alignset.pipeline.inputs.earlier_sets import OF_SETS
from alignset.pipeline.job import ABOUT
from alignset.pipeline.removal_reasons import OPT_OUT, REMOVAL_REASONS
from alignset.pipeline.runs.documents import Funnel, Manifest
from alignset.pipeline.shown_texts import as_cell, as_code, counted
from alignset.transforms.decontamination.overlap_settings import EvaluationSet
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.rules.catalogue import KEEP_MOST_SIMILAR, SIMILARITY
from alignset.transforms.rules.given import (
    BROKEN_INPUT,
    BROKEN_PAGE,
    FETCH_FAILED,
    MALFORMED_PAIR,
    NOT_AN_IMAGE,
    OPTED_OUT,
    UNDECODABLE,
)
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.unsafe import MAX_UNSAFE_SCORE
from alignset.transforms.shards.shard_stats import SharedContents

_NAMED_FILES = 5  # of each format
# Reasons of the funnel, beside opt-outs, that say that a pair is not wanted here.
_UNWANTED = ("blocked", "removed_before", "taken_down")
# Reasons of rows that are not pairs, or whose image could not be fetched.
_WITHOUT_A_PAIR = (
    *(BROKEN_INPUT, BROKEN_PAGE, MALFORMED_PAIR),
    *(FETCH_FAILED, NOT_AN_IMAGE, UNDECODABLE),
)
# By flag, how an owner says it.
_OTHER_OPT_OUTS = {
    "tdm_reservation": "TDM reservations",
    "content_usage": "AI preferences (`Content-Usage`)",
    "xmp_data_mining": "`DataMining` in XMP",
    "c2pa": "C2PA's assertion on training",
}


def sources(manifest: Manifest) -> list[str]:
    """The input files by their format, in Markdown: by name, without the machine's folders."""
    lines = []
    for kind, group in groupby(sorted(manifest.input, key=attrgetter("format", "path")), _format):
        files = list(group)
        names = ", ".join(as_code(_short_name(file.path)) for file in files[:_NAMED_FILES])
        more = len(files) - _NAMED_FILES
        tail = f", and {more:,} more, which `manifest.json` names" if more > 0 else ""
        size = sum(file.bytes for file in files)
        lines.append(
            f"{counted(len(files), 'file')} of format {kind if kind.isalnum() else as_code(kind)}, "
            f"{size:,} bytes: {names}{tail}"
        )
    return lines


_format = attrgetter("format")


def _short_name(path: str) -> str:
    """A file's name; in a dataset, where shards and held-out shards have the same numbers, with its
    folder there."""
    *_, folder, name = ("", *path.split("/"))
    return f"{folder}/{name}" if folder in OF_SETS else name


def span(first: str, last: str) -> str:
    """As "on 2024-05-18", or "from 2024-05-18 to 2024-05-30"."""
    return f"on {first}" if first == last else f"from {first} to {last}"


def crawl_days(funnel: Funnel) -> str:
    """When pages were crawled, as their archives say; "" where these do not."""
    pages = funnel.pages
    if not isinstance(pages, PageCounts) or not (pages.first_day and pages.last_day):
        return ""
    return span(pages.first_day, pages.last_day)


def fetch_span(manifest: Manifest) -> str:
    """When images were fetched; "" where none was."""
    return span(manifest.fetched.first, manifest.fetched.last) if manifest.fetched else ""


def earlier_fetch_span(earlier: Earlier) -> str:
    """When the images of earlier datasets were fetched; "" where nothing tells."""
    return ", ".join(
        f"{as_code(folder)} {span(as_code(days.first), as_code(days.last))}"
        for folder, manifest in with_images(earlier).items()
        if (days := manifest.fetched)
    )


def opt_outs(funnel: Funnel) -> dict[str, int]:
    """How many pairs an opt-out, a blocklist or a takedown keeps out of the dataset: by details of
    `opted_out`, and by reasons of the funnel; for earlier datasets, by their folders."""
    report = funnel.opted_out
    counts: dict[str, int] = {}
    if not isinstance(report, UnsetType) and report.opt_outs == "reject":
        counts |= report.details
    for step in funnel.steps:
        for reason in _UNWANTED:
            counts[reason] = counts.get(reason, 0) + step.dropped.get(reason, 0)
    for stage in all_stages(funnel):
        for reason in (OPTED_OUT, *_UNWANTED):
            pairs = sum(step.dropped.get(reason, 0) for step in stage.steps)
            counts[f"{stage.folder}: {reason}"] = pairs
    return {name: count for name, count in counts.items() if count}


def opt_out_text(manifest: Manifest, earlier: Earlier) -> str:
    """Which opt-outs about the use of images were asked for, in sentences in Markdown."""
    earlier_texts = [
        f" Earlier, of {as_code(folder)}: {_own_text(of_set)}"
        for folder, of_set in with_images(earlier).items()
        if of_set.fetched
    ]
    own = " by this run" if earlier_texts and not manifest.fetched else ""
    first = _own_text(manifest) or f"No image was fetched{own}, so no host's opt-outs were read."
    return "".join([first, *earlier_texts])


def _own_text(manifest: Manifest) -> str:
    if not manifest.fetched:
        return ""
    fetch = manifest.fetch
    directives = str(fetch.get("disallowed_header_directives", ""))
    robots = "" if fetch.get("robots_txt") else "not "
    heard = f"with one of {as_code(directives)} was honoured" if directives else "was not honoured"
    others = [name for flag, name in _OTHER_OPT_OUTS.items() if fetch.get(flag)]
    also = f" Also honoured: {', '.join(others)}." if others else ""
    report_note = (
        " Pairs with an opt-out were kept, with its kind in `opted_out` of the sidecars."
        if fetch.get("opt_outs") == "report"
        else ""
    )
    return (
        f"While images were fetched, the hosts' `robots.txt` was {robots}honoured, and an "
        f"`X-Robots-Tag` {heard}.{also}{report_note}"
    )


def contact(manifest: Manifest) -> str:
    """The contact of the last command that fetched, for takedowns; "" where none did."""
    fetches = [manifest.fetch, *(retry.fetch for retry in manifest.retries or [])]
    return next((str(fetch["contact"]) for fetch in reversed(fetches) if fetch.get("contact")), "")


def _of_unsafe_images(manifest: Manifest, earlier: Earlier) -> str:
    model, before = manifest.unsafe_model, earlier_scores(earlier)
    none_looked = "Nobody has looked at the images one by one."
    if model and MAX_UNSAFE_SCORE.is_off(manifest.rules["max_unsafe_score"]):
        return (
            f"**Unsafe images (NSFW)**: none was dropped for its score by {as_code(model.path)}; "
            "the "
            f"scores are in the sidecars. {none_looked}"
        )
    if not model and before:
        return (
            f"**Unsafe images (NSFW) that a classifier misses**: {before}. This run scored none, "
            "so "
            "images of pairs that did not come from there are not filtered. Its recall is "
            f"not known. {none_looked}"
        )
    if not model:
        return (
            "**Unsafe images (NSFW)**: pornographic, violent and otherwise shocking images are not "
            f"filtered. {none_looked}"
        )
    first = model.integer_model
    lower = f" (those below {first.settles_below} are by its network in integers)" if first else ""
    return (
        f"**Unsafe images (NSFW) that a classifier misses** ({as_code(model.path)}): images with a "
        f"score above {manifest.rules['max_unsafe_score']} were dropped, and the scores of the "
        "others "
        f"are in the sidecars{lower}. Its recall is not known. The usual classifier looks "
        f"for pornography alone, not for violence or other shocking images. {none_looked}"
    )


def method(manifest: Manifest, funnel: Funnel) -> str:
    """By which filters a dataset was made, in sentences."""
    flag = open_flag(manifest)
    other_reasons = _other_reasons(funnel)
    if not flag:
        return (
            "Made by alignset with the filters of ALIGN (Jia et al., 2021, section 3), set as "
            "under Rules."
        )
    if flag == "score_only":
        return "alignset added scores and hashes to existing pairs. " + (
            f"Other than pairs without a URL, a text or an image, these left: {other_reasons}."
            if other_reasons
            else "No filter was applied: only pairs without a URL, a text or an image left them."
        )
    return "alignset took copies of evaluation images out of existing pairs. " + (
        f"These left, too: {other_reasons}." if other_reasons else "No other filter was applied."
    )


def _other_reasons(funnel: Funnel) -> str:
    """The reasons that dropped pairs with a URL, a text and an image that is not a copy of an
    evaluation image, in Markdown; "" for none."""
    counts: dict[str, int] = {}
    for step in funnel.steps:
        for reason, count in step.dropped.items():
            counts[reason] = counts.get(reason, 0) + count
    return ", ".join(
        f"{as_code(reason)} ({count:,})"
        for reason, count in counts.items()
        if count and reason not in (*_WITHOUT_A_PAIR, MIN_EVALUATION_DISTANCE.reason)
    )


def text_and_image(manifest: Manifest, earlier: Earlier) -> str:
    """Whether a model compared texts with their images, as the end of a sentence."""

    def is_scored(of: Manifest) -> bool:
        return bool(of.job.get("score_model")) and not of.job.get("text_only")

    if is_scored(manifest):
        scored = "a model scored each pair (`similarity`), and errs"
    elif SIMILARITY in (manifest.columns or {}):
        scored = "scores came with the input (`similarity`), and this run compared nothing"
    elif before := [name for name, of in with_images(earlier).items() if is_scored(of)]:
        scored = f"a model scored the pairs of {', '.join(map(as_code, before))}, and errs"
    else:
        return "no model has compared the two"
    share = float(manifest.rules.get(KEEP_MOST_SIMILAR, 1))
    return scored + (f"; a share of {share:g} of the pairs was kept by it" if share < 1 else "")


def _of_copies(manifest: Manifest, funnel: Funnel) -> str:
    line = "**Copies within the dataset**: "
    ways = [str(manifest.job.get("duplicates", "keep"))]
    ways += ("near" if of.near else "exact" for of in manifest.deduplications or [])
    if ways == ["keep"] or not isinstance(funnel.copies, SharedContents) or funnel.copies.images:
        return (
            f"{line}an image that lies at two URLs is in the dataset twice, and images that nearly "
            "equal each other stay."
        )
    line += "images with the same bytes are in the dataset once"
    if "near" in ways:
        return f"{line}; of photographs that look alike one was kept, as far as they were found."
    return f"{line}; images that nearly equal each other stay."


def of_looked_into(manifest: Manifest, contents: Contents) -> str:
    """As "among all 653 pairs", or "in a sample of 4,096 pairs"."""
    if contents.pairs >= manifest.pairs:
        return f"among all {counted(contents.pairs, 'pair')}"
    return f"in a sample of {counted(contents.pairs, 'pair')}"


def limitations(manifest: Manifest, funnel: Funnel, earlier: Earlier) -> list[str]:
    """Properties that no rule of this run or of earlier datasets judged, in plain words."""
    rules, fetch = manifest.rules, manifest.fetch
    of_all = [
        "**Personal data**: names, faces and addresses in texts and images stay.",
        "**Hateful, false or otherwise harmful texts**: no rule looks for them.",
        f"**Whether a text describes its image**: {text_and_image(manifest, earlier)}.",
    ]
    if rules["language"]:
        line = "**Language**: a program judged each text, and errs; some are in other languages."
    else:
        line = "**Language**: there was no rule, and texts of all languages were kept."
    if manifest.job["text_only"]:
        return [*of_all, line, "**Images**: none was fetched, so no rule saw any."]
    lines = [
        _of_unsafe_images(manifest, earlier),
        *of_all,
        "**Watermarks, logos, images of text, and placeholders with few alt-texts**: no rule "
        "looks for them.",
        _of_copies(manifest, funnel),
        line,
    ]
    if manifest.fetched and not fetch["robots_txt"]:
        lines.append("**`robots.txt`** of the hosts was not read.")
    if manifest.fetched and not fetch["disallowed_header_directives"]:
        lines.append("**`X-Robots-Tag`** of responses was not honoured.")
    return lines


Earlier = Mapping[str, Manifest]  # by the folder that they are in


def with_images(earlier: Earlier) -> dict[str, Manifest]:
    """Those whose own images came along: neither they nor a dataset between are of texts alone."""
    texts = [folder for folder, manifest in earlier.items() if manifest.job.get("text_only")]
    return {
        folder: manifest
        for folder, manifest in earlier.items()
        if not any(f"{folder}/".startswith(f"{of_texts}/") for of_texts in texts)
    }


def earlier_evaluation(earlier: Earlier) -> list[str]:
    """With which evaluation images each dataset was compared, in Markdown; without those with
    none."""
    lines = []
    for folder, manifest in with_images(earlier).items():
        if manifest.evaluation_images:
            sets = ", ".join(_set_text(*item) for item in manifest.evaluation_images.items())
            measure = manifest.overlap_measure
            lines.append(
                f"{as_code(folder)}, at a distance below "
                f"{_rule(manifest, 'min_evaluation_distance')}"
                f"{'' if measure == 'copy' else f' by {as_code(measure)}'}: {sets}"
            )
    return lines


def _set_text(name: str, of_set: EvaluationSet) -> str:
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
    """The blocklists of each dataset that had some, in Markdown."""
    return [
        f"{as_code(folder)}: {', '.join(as_code(of_list.name) for of_list in manifest.blocklists)}"
        for folder, manifest in earlier.items()
        if not isinstance(manifest.blocklists, UnsetType) and manifest.blocklists
    ]


def earlier_vocabularies(earlier: Earlier) -> list[str]:
    """How many unigrams and bigrams each dataset's texts were kept by, in Markdown."""
    return [
        f"{as_code(folder)}: {manifest.vocabulary.vocabulary:,}"
        + (" of an earlier run" if manifest.given_vocabulary else "")
        for folder, manifest in earlier.items()
    ]


def _rule(manifest: Manifest, name: str) -> str:
    return as_code(str(manifest.rules.get(name, "?")))


@cache
def template(name: str) -> jinja2.Template:
    """The template in a file; it knows `n`, `counted` and `code`, and the filter `cell`."""
    documents = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
    )
    documents.globals |= {"n": "{:,}".format, "counted": counted, "code": as_code}
    documents.filters["cell"] = as_cell
    return documents.get_template(name)


def common_facts(
    manifest: Manifest, funnel: Funnel, contents: Contents, earlier: Earlier
) -> dict[str, Any]:
    """Values that the card's template is given.

    Args:
      manifest, funnel: as they are written. contents: what was seen of the pairs.
      earlier: the manifests of the datasets that it was made of, by where they are.
    """
    text_only = bool(manifest.job["text_only"])
    return {
        "manifest": manifest,
        "contents": contents,
        "removal_reason": lambda takedown: REMOVAL_REASONS.get(takedown.reason or OPT_OUT, ""),
        "about": dict.fromkeys(ABOUT, "") | (manifest.about or {}),
        "text_only": text_only,
        "held_out": sum(shard.pairs for shard in manifest.held_out.values()),
        "sources": sources(manifest),
        "limitations": limitations(manifest, funnel, earlier),
        "method": method(manifest, funnel),
        "days": crawl_days(funnel),
        "fetched": fetch_span(manifest),
        "fetched_before": "" if text_only else earlier_fetch_span(earlier),
        "opt_out_text": opt_out_text(manifest, earlier),
        "evaluated": [] if text_only else earlier_evaluation(earlier),
        "opt_outs": opt_outs(funnel),
        "copies_text": copies_text(funnel),
        "of_looked_into": of_looked_into(manifest, contents),
        "clean_split": manifest.job.get("holdout_copies") == "drop",
        "contact": contact(manifest),
    }
