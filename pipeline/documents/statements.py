"""Features of a dataset, and the sentence that says of each what was done.

Every document takes its sentences from here, so that no document says the opposite of another. This
module finds what is on, and `statements.j2` has the sentences.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import jinja2

from alignset.pipeline.datasets.history import all_stages
from alignset.pipeline.datasets.reproduce import open_flag
from alignset.pipeline.datasets.summary import copies_text
from alignset.pipeline.removal_reasons import REMOVAL_REASONS
from alignset.pipeline.runs.documents import Funnel, Manifest, OptOuts
from alignset.pipeline.shown_texts import as_cell, as_code, counted
from alignset.transforms.rules import given
from alignset.transforms.rules.catalogue import SIMILARITY
from alignset.transforms.rules.language_codes import ALL
from alignset.transforms.rules.overlap import MIN_EVALUATION_DISTANCE

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
_HEAD = re.compile(r"^\*\*.*?\*\*:\s*")
_LIMITS = ("unsafe", "personal", "harmful", "similarity", "watermarks", "copies", "language")


def statements(manifest: Manifest, funnel: Funnel, earlier: Earlier) -> dict[str, str]:
    """The sentences by feature, in Markdown, each on one line; "" where there is nothing to say.

    Args:
      earlier: the manifests of the datasets that it was made of, by where they are. Where such a
        dataset has a feature, its sentence follows.
    """
    sentences = template("statements.j2").module
    flag, drops = open_flag(manifest), Counter[str]()
    for step in funnel.steps:
        drops.update(step.dropped)
    for reason in (*_WITHOUT_A_PAIR, MIN_EVALUATION_DISTANCE.reason):
        del drops[reason]
    others = ", ".join(f"{as_code(reason)} ({count:,})" for reason, count in (+drops).items())
    arguments = {
        "method": (flag, others),
        "crawled": (funnel.pages,),
        "copies": (manifest, copies_text(funnel.copies, funnel.near_duplicates)),
        "holdout": (manifest, funnel.copies),
        "takedowns": (manifest, REMOVAL_REASONS),
        "deduplications": (manifest,),
        "retries": (manifest,),
        "language": (manifest.rules.get("language"), ALL),
    } | dict.fromkeys(("personal", "harmful", "watermarks", "images"), ())
    texts = {name: getattr(sentences, name)(*of) for name, of in arguments.items()}
    # No image came along from a dataset of texts alone, and from what that was made of.
    of_texts = tuple(f"{name}/" for name, of in earlier.items() if of.job.get("text_only"))
    with_images = {name: of for name, of in earlier.items() if not f"{name}/".startswith(of_texts)}
    for name, is_on in _IS_ON.items():
        sentence = getattr(sentences, name)
        sources = earlier if name in _OF_TEXTS else with_images
        before = {folder: of for folder, of in sources.items() if is_on(of)}
        texts[name] = sentence(manifest, not before) + "".join(
            f" Earlier, of {as_code(folder)}: {_HEAD.sub('', sentence(of, False))}"
            for folder, of in before.items()
        )
    return {name: " ".join(text.split()) for name, text in texts.items()}


def limits(manifest: Manifest, texts: Mapping[str, str]) -> list[str]:
    """The sentences on what the filters do not see."""
    of_texts = ("personal", "harmful", "language", "images")
    return [texts[name] for name in (of_texts if manifest.job["text_only"] else _LIMITS)]


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


@cache
def template(name: str) -> jinja2.Template:
    """The template in a file; it knows `n`, `counted`, `code` and what is asked of manifests."""
    documents = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
    )
    documents.globals |= {"n": "{:,}".format, "counted": counted, "code": as_code}
    documents.globals |= {"is_scored": _is_scored, "is_compared": _is_compared}
    documents.globals["other_opt_outs"] = _OTHER_OPT_OUTS
    documents.filters |= {"cell": as_cell, "code": as_code}
    return documents.get_template(name)


def _is_scored(manifest: Manifest) -> bool:
    measures = manifest.catalogue.measures.values()
    own = SIMILARITY in {measure.column for measure in measures}
    return bool(manifest.job.get("score_model")) or own


def _is_compared(manifest: Manifest) -> bool:
    has_scores = _is_scored(manifest) or SIMILARITY in (manifest.columns or {})
    return has_scores and not manifest.job.get("text_only")


# By feature, whether a manifest alone says that its run had it.
_IS_ON: dict[str, Callable[[Manifest], bool]] = {
    "fetched": lambda of: bool(of.fetched),
    "opt_outs": lambda of: bool(of.fetched),
    "unsafe": lambda of: bool(of.unsafe_model),
    "similarity": _is_compared,
    "evaluation": lambda of: bool(of.evaluation_images),
    "blocklists": lambda of: bool(of.blocklists),
    "vocabulary": lambda of: True,
}
_OF_TEXTS = ("blocklists", "vocabulary")  # which stay true where images did not come along
