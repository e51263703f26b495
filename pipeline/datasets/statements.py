"""Features of a dataset, and the sentence that says of each what was done.

Every document takes its sentences from here, so that no document says the opposite of another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec import UnsetType

from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.reproduce import open_flag
from alignset.pipeline.datasets.summary import copies_text
from alignset.pipeline.removal_reasons import OPT_OUT, REMOVAL_REASONS
from alignset.pipeline.runs.documents import Days, Funnel, Manifest, OptOuts
from alignset.pipeline.shown_texts import as_code, counted
from alignset.transforms.pages.page_counts import PageCounts
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import KEEP_MOST_SIMILAR, SIMILARITY
from alignset.transforms.rules.language_codes import ALL
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE
from alignset.transforms.rules.unsafe import MAX_UNSAFE_SCORE
from alignset.transforms.shards.shard_stats import SharedContents

Earlier = Mapping[str, Manifest]  # the datasets that one was made of, by the folder they are in

# Reasons of the funnel, beside opt-outs, that say that a pair is not wanted here.
_UNWANTED = (given.BLOCKED, given.REMOVED_BEFORE, given.TAKEN_DOWN)
# Reasons of rows without a URL, a text or an image.
_WITHOUT_A_PAIR = (
    *(given.BROKEN_INPUT, given.BROKEN_PAGE, given.MALFORMED_PAIR),
    *(given.FETCH_FAILED, given.NOT_AN_IMAGE, given.UNDECODABLE),
)
# By flag, how an owner says it.
_OTHER_OPT_OUTS = {
    "tdm_reservation": "TDM reservations",
    "content_usage": "AI preferences (`Content-Usage`)",
    "xmp_data_mining": "`DataMining` in XMP",
    "c2pa": "C2PA's assertion on training",
}
_LIMITS = ("unsafe", "personal", "harmful", "similarity", "watermarks", "copies", "language")


@dataclass(frozen=True)
class Statement:
    """A feature, and what is said of it.

    Attributes:
      is_on: whether it was done, or is there.
      text: sentences in Markdown, on one line.
      gap: the sentence that follows where no earlier dataset has the feature either.
    """

    is_on: bool
    text: str
    gap: str = ""


def statements(manifest: Manifest, funnel: Funnel, earlier: Earlier) -> dict[str, str]:
    """The sentences by feature; "" where there is nothing to say.

    Args:
      earlier: the manifests of the datasets that it was made of, by where they are.
    """
    texts = {}
    for name, state in _OF_RUNS.items():
        own = state(manifest)
        sources = earlier if name in _OF_TEXTS else with_images(earlier)
        before = {folder: of for folder, m in sources.items() if (of := state(m)).is_on}
        theirs = [f"Earlier, of {as_code(folder)}: {of.text}" for folder, of in before.items()]
        texts[name] = " ".join(filter(None, [own.text, *(theirs or [own.gap])]))
    near = manifest.job.get("duplicates") == "near" or any(
        done.near for done in manifest.deduplications or []
    )
    copies = copies_text(funnel) or "nobody has counted them"
    alike = "images that nearly equal each other stay"
    if near:
        alike = "of photographs that look alike one was kept, as far as they were found"
    pages = funnel.pages or PageCounts()
    crawl = Days(pages.first_day or "", pages.last_day or "")
    return texts | {
        "method": _method(manifest, funnel),
        "crawled": f"The archives say that their pages were crawled {_span(crawl)}."
        if crawl.first and crawl.last
        else "",
        "copies": f"**Copies within the dataset**: {copies}; {alike}.",
        "holdout": _holdout(manifest, funnel),
        "takedowns": " ".join(
            f"{of.day}: {counted(of.pairs, 'pair')}, by "
            f"{', '.join(as_code(named.name) for named in of.lists)}: "
            f"{REMOVAL_REASONS.get(of.reason or OPT_OUT, 'for another reason')}."
            for of in manifest.takedowns or []
        ),
        "deduplications": " ".join(
            f"{done.day}: {counted(sum(done.dropped.values()), 'pair')} left for their duplicates"
            f"{'; photographs that look like a better one left' if done.near else ''}."
            for done in manifest.deduplications or []
        ),
        "retries": " ".join(
            f"{counted(of.tried, 'failed fetch', 'failed fetches')} "
            f"({', '.join(map(as_code, of.details)) or 'all'}) tried again: {of.kept:,} kept."
            for of in manifest.retries or []
        ),
        "personal": "**Personal data**: no rule of alignset looks for names, faces or addresses.",
        "harmful": "**Hateful, false or otherwise harmful texts**: no rule of alignset looks for them.",
        "watermarks": "**Watermarks, logos, images of text, and placeholders with few "
        "alt-texts**: no rule of alignset looks for them.",
    }


def limits(manifest: Manifest, texts: Mapping[str, str]) -> list[str]:
    """The sentences on what the filters do not see."""
    if not manifest.job["text_only"]:
        return [texts[name] for name in _LIMITS]
    seen = [texts[name] for name in ("personal", "harmful", "language")]
    return [*seen, "**Images**: none was fetched, so no rule saw any."]


def opt_out_counts(funnel: Funnel) -> dict[str, int]:
    """How many pairs an opt-out, a blocklist or a takedown keeps out of the dataset: by details of
    `opted_out`, and by reasons of the funnel; for earlier datasets, by their folders."""
    report = funnel.opted_out
    counts = Counter[str]()
    if isinstance(report, OptOuts) and report.opt_outs == "reject":
        counts.update(report.details)
    for step in funnel.steps:
        counts.update({reason: step.dropped.get(reason, 0) for reason in _UNWANTED})
    for stage in all_stages(funnel):
        for reason in (given.OPTED_OUT, *_UNWANTED):
            pairs = sum(step.dropped.get(reason, 0) for step in stage.steps)
            counts[f"{stage.folder}: {reason}"] += pairs
    return dict(+counts)


def with_images(earlier: Earlier) -> dict[str, Manifest]:
    """Those whose own images came along: neither they nor a dataset between are of texts alone."""
    texts = [folder for folder, manifest in earlier.items() if manifest.job.get("text_only")]
    return {
        folder: manifest
        for folder, manifest in earlier.items()
        if not any(f"{folder}/".startswith(f"{of_texts}/") for of_texts in texts)
    }


def _span(days: Days) -> str:
    """As "on `2024-05-18`", or "from `2024-05-18` to `2024-05-30`"."""
    first, last = as_code(days.first), as_code(days.last)
    return f"on {first}" if first == last else f"from {first} to {last}"


def _method(manifest: Manifest, funnel: Funnel) -> str:
    flag, counts = open_flag(manifest), Counter[str]()
    if not flag:
        return (
            "Made by alignset with the filters of ALIGN (Jia et al., 2021, section 3), set as "
            "under Rules."
        )
    for step in funnel.steps:
        counts.update(step.dropped)
    for reason in (*_WITHOUT_A_PAIR, MIN_EVALUATION_DISTANCE.reason):
        del counts[reason]
    is_scored = flag == "score_only"
    done = "added scores and hashes to" if is_scored else "took copies of evaluation images out of"
    others = ", ".join(f"{as_code(reason)} ({n:,})" for reason, n in (+counts).items())
    rest = f"Of the others, these left: {others}"
    if not others:
        rest = f"No {'' if is_scored else 'other '}filter was applied"
    missing = "Pairs without a URL, a text or an image left."
    return f"alignset {done} existing pairs. {rest}. {missing}"


def _holdout(manifest: Manifest, funnel: Funnel) -> str:
    if not manifest.held_out:
        return ""
    pairs = sum(shard.pairs for shard in manifest.held_out.values())
    if manifest.job.get("holdout_copies") == "drop":
        copies = "images that are in `shards/` too, altered or not, left them"
    elif isinstance(funnel.copies, SharedContents) and not funnel.copies.images:
        copies = "none has the bytes of an image in `shards/`"
    else:
        copies = "the same image at another URL may be in `shards/`"
    return (
        f"{pairs:,} of these pairs, which are held out to validate on, by the hash of their "
        f"image's URL; {copies}."
    )


def _fetched(manifest: Manifest) -> Statement:
    if manifest.fetched:
        when = f"{_span(manifest.fetched)} (UTC, by when the shards were written)"
        return Statement(True, f"The images were fetched {when}.")
    if manifest.job.get("text_only") or not manifest.pairs:
        return Statement(False, "No image was fetched.")
    return Statement(
        False,
        "The images were copied from the input's shards.",
        "The days when they were fetched are unknown.",
    )


def _opt_outs(manifest: Manifest) -> Statement:
    if not manifest.fetched:
        return Statement(
            False, "No image was fetched by this run, so no host's opt-outs were read."
        )
    fetch = manifest.fetch
    directives = str(fetch.get("disallowed_header_directives", ""))
    robots = "" if fetch.get("robots_txt") else "not "
    heard = f"with one of {as_code(directives)} was honoured" if directives else "was not honoured"
    others = [name for flag, name in _OTHER_OPT_OUTS.items() if fetch.get(flag)]
    also = f" Also honoured: {', '.join(others)}." if others else ""
    if fetch.get("opt_outs") == "report":
        also += " Pairs with an opt-out were kept, with its kind in `opted_out` of the sidecars."
    return Statement(
        True,
        f"While images were fetched, the hosts' `robots.txt` was {robots}honoured, and an "
        f"`X-Robots-Tag` {heard}.{also}",
    )


def _unsafe(manifest: Manifest) -> Statement:
    head, model = "**Unsafe images (NSFW)**:", manifest.unsafe_model
    if not model:
        return Statement(
            False,
            f"{head} this run scored no image.",
            "Pornographic, violent and otherwise shocking images are not filtered.",
        )
    most, path = manifest.rules.get(MAX_UNSAFE_SCORE.name, "?"), as_code(model.path)
    if isinstance(most, int | float) and MAX_UNSAFE_SCORE.is_off(most):
        text = f"{head} none was dropped for its score by {path}; the scores are in the sidecars."
        return Statement(True, text)
    first = model.integer_model
    lower = f" (those below {first.settles_below} are by its network in integers)" if first else ""
    return Statement(
        True,
        f"{head} images with a score above {as_code(str(most))} by {path} were dropped, and the "
        f"scores of the others are in the sidecars{lower}. Its recall is not known. The usual "
        "classifier looks for pornography alone, not for violence or other shocking images.",
    )


def _similarity(manifest: Manifest) -> Statement:
    head = "**Whether a text describes its image**:"
    columns = {measure.column for measure in manifest.catalogue.measures.values()}
    if manifest.job.get("text_only"):
        return Statement(False, f"{head} this run compared nothing.", "No model has.")
    if manifest.job.get("score_model") or SIMILARITY in columns:
        text = f"{head} a model scored each pair (`similarity`), and errs"
    elif SIMILARITY in (manifest.columns or {}):
        text = f"{head} scores came with the input (`similarity`), and this run compared nothing"
    else:
        return Statement(
            False, f"{head} this run compared nothing.", "No model has compared the two."
        )
    share = manifest.rules.get(KEEP_MOST_SIMILAR, 1)
    part = "" if share == 1 else f"; a share of {as_code(str(share))} of the pairs was kept by it"
    return Statement(True, f"{text}{part}.")


def _language(manifest: Manifest) -> Statement:
    rule = manifest.rules.get("language")
    if rule and rule != ALL:
        text = "a program judged each text, and errs; some are in other languages"
    elif rule:
        text = "a program found each text's, and errs; texts of all languages were kept"
    else:
        text = "there was no rule, and texts of all languages were kept"
    return Statement(False, f"**Language**: {text}.")


def _evaluation(manifest: Manifest) -> Statement:
    if not manifest.evaluation_images:
        return Statement(
            False,
            "This run had no evaluation images.",
            "**Copies of test sets may be in here.**",
        )
    sets = []
    for name, of in manifest.evaluation_images.items():
        lost = f", and {of.unreadable:,} that could not be decoded and are **not** protected"
        images = counted(of.images, "image") + (lost if of.unreadable else "")
        sets.append(f"{as_code(name)} ({images})")
    distance = manifest.rules.get(MIN_EVALUATION_DISTANCE.name, "?")
    if not distance:
        rest = "No image was dropped for them: the sidecars have the nearest one and its distance."
    else:
        measure = manifest.overlap_measure
        unit = " (0 to 2)" if measure == "copy" else f" by {as_code(measure)} of an earlier version"
        rest = f"Images at a distance{unit} below {as_code(str(distance))} were dropped as copies."
    return Statement(True, f"Compared with evaluation images: {', '.join(sets)}. {rest}")


def _blocklists(manifest: Manifest) -> Statement:
    lists = [
        f"{as_code(of.name)} ({', '.join(f'{n:,} {kind}' for kind, n in of.entries.items())}; "
        f"SHA-256 {as_code(of.sha256)})"
        for of in manifest.blocklists or []
    ]
    text = f"Pairs on one of these lists were dropped as `blocked`: {', '.join(lists)}."
    return Statement(bool(lists), text if lists else "")


def _vocabulary(manifest: Manifest) -> Statement:
    of, given_file = manifest.vocabulary, manifest.given_vocabulary
    if given_file is not None:
        text = (
            f"Texts were kept by the vocabulary of an earlier run: {of.vocabulary:,} unigrams and "
            f"bigrams, SHA-256 of their hashes {as_code(given_file.sha256)}. The n-grams of this "
            "input were not counted."
        )
        return Statement(True, text)
    if isinstance(of.share_of_occurrences, UnsetType):
        return Statement(False, "")
    cut = f"Some or all that occur {of.cut_off_count:,} times are left out, and all rarer ones."
    return Statement(
        True,
        f"Texts were kept by the {of.vocabulary:,} most frequent of {of.ngrams:,} unigrams and "
        f"bigrams, {of.share_of_occurrences:.2%} of all that occur. "
        + (cut if of.cut_off_count else "None is left out."),
    )


# What a manifest alone says of its own run.
_OF_RUNS: dict[str, Callable[[Manifest], Statement]] = {
    "fetched": _fetched,
    "opt_outs": _opt_outs,
    "unsafe": _unsafe,
    "similarity": _similarity,
    "language": _language,
    "evaluation": _evaluation,
    "blocklists": _blocklists,
    "vocabulary": _vocabulary,
}
_OF_TEXTS = ("blocklists", "vocabulary")  # which stay true where images did not come along
