"""Pairs whose texts decide: frequent ones, popular images, languages, lengths, duplicates."""

from collections.abc import Callable
from dataclasses import replace
from itertools import islice

from alignset.demo import phrases
from alignset.demo.photos import PHOTOS, VARIANTS
from alignset.demo.site import Site, WebPair
from alignset.demo.text_rules import kept_text


def _another_image(site: Site, query: str) -> str:
    """A URL of its own for a scene's file, as resizing services have them."""
    return f"{site.next_scene()[0]}?{query}"


def add_frequent_texts(site: Site) -> None:
    """Texts that software writes into alt attributes, on hundreds of images; two of them are not
    English."""
    for number in range(site.plan.frequent):
        for name in phrases.FREQUENT_NAMES:
            site.add(_another_image(site, f"as={name}&id={number}"), name, "wrong_language")
        enlarge = _another_image(site, f"w=1024&id={number}")
        site.add(enlarge, phrases.BOILERPLATE, "text_on_too_many_images")


def add_shared_texts(site: Site) -> None:
    """Texts on exactly as many images as allowed and on one more, counted by identity."""
    picture = PHOTOS[0].open()
    for number in range(11):
        site.write(f"shared/{number}.jpg", VARIANTS["cropped.jpg"](picture.rotate(3 * number)))
    for text in phrases.EVERYBODYS:
        for number in range(10):
            site.add(f"shared/{number}.jpg", text)
        site.add("shared/0.jpg#again", text, "duplicate_pair")
    for text in phrases.TOO_MANYS:
        for number in range(11):
            shown = text.capitalize() if number % 2 else text
            site.add(f"shared/{number}.jpg", shown, "text_on_too_many_images")


def add_popular_images(site: Site) -> None:
    """One image under too many texts, and one under exactly as many as allowed."""
    photo = PHOTOS[site.plan.photos - 1]
    picture = photo.open()
    popular = site.write("popular/stock.jpg", VARIANTS["original.jpg"](picture))
    sentences = phrases.sentences(site.rng)
    for text in site.languages.sure_english(sentences, site.plan.texts_of_popular):
        site.add(popular, text, "image_with_too_many_texts")
    allowed = site.write("popular/allowed.jpg", VARIANTS["progressive.jpg"](picture))
    for text in photo.texts:
        site.add(allowed, text)
    named = (f"{text} called {name}" for text, name in zip(sentences, site.new_words, strict=False))
    others = site.plan.max_texts_per_image - len(photo.texts)
    for text in site.languages.sure_english(named, others):
        site.add(allowed, text, "rare_token")
    site.add(allowed, photo.texts[1].capitalize(), "duplicate_pair")


def add_foreign_texts(site: Site) -> None:
    for texts in phrases.FOREIGN.values():
        for text in texts:
            for _ in range((site.plan.odd + 1) // 2):
                site.add(site.next_scene()[0], text, "wrong_language")


def add_lengths(site: Site) -> None:
    """Texts of 1, 2, 3, 20, 21 and 40 words; those within the limits are on two images each."""
    sure = site.languages.sure_english
    few = sure(phrases.FEW_WORDS)
    for number in range(4 * site.plan.odd):
        site.add(_another_image(site, f"few={number}"), few[number % len(few)], "too_few_words")
    just_enough = sure((*phrases.THREE_WORDS, *phrases.long_sentences(site.rng, site.plan.odd, 20)))
    for text in just_enough * 2:
        site.add(_another_image(site, f"enough={len(site.rows)}"), text)
    for word_count in (21, 40):
        for text in sure(phrases.long_sentences(site.rng, site.plan.odd, word_count)):
            site.add(site.next_scene()[0], text, "too_many_words")


def add_rare_tokens(site: Site) -> None:
    """Scenes' texts with a word, or a pair of words, that nobody else uses."""
    rare = []
    for name in islice(site.new_words, 6 * site.plan.odd):
        path, text = site.next_scene()
        rare.append((path, f"{text} called {name}"))
    rare += [(path, f"triangles of {text}") for path, text in [site.next_scene()]]
    sure = set(site.languages.sure_english(text for _, text in rare))
    for path, text in rare:
        if text in sure:
            site.add(path, text, "rare_token")
    repeated = f"the mountain called {next(site.new_words)}"  # said twice, so no longer rare
    site.add(path, repeated)
    site.add(path, repeated, "duplicate_pair")


def add_malformed(site: Site) -> None:
    path, text = site.next_scene()
    urls = (None, "", "   ", "ftp://example.org/picture.jpg", "data:image/gif;base64,R0lGODlhAQ",
            "/pictures/relative.jpg", "//cdn.example.org/picture.jpg", "mailto:someone@example.org",
            "javascript:void(0)", "http://", "https:///", "picture.jpg")  # fmt: skip
    for url in urls:
        site.rows.append(WebPair(url, text, "malformed_pair"))
    for number, nothing in enumerate((None, "", "  \n ", "&nbsp;")):
        site.add(f"{path}?nothing={number}", nothing, "malformed_pair")
    site.rows.append(WebPair(None, None, "malformed_pair"))


# A rare word that is repeated is rare no longer, for duplicates count in the vocabulary.
_NOT_REPEATED = ("duplicate_pair", "malformed_pair", "rare_token")

# How the web says the same pair once more.
_REPEATS: tuple[Callable[[str, str], tuple[str, str]], ...] = (
    lambda url, text: (url, text),
    lambda url, text: (url, text.capitalize()),
    lambda url, text: (url, text.title()),
    lambda url, text: (
        url.replace("http://localhost", "HTTP://LocalHost").replace("http://1", "Http://1"),
        text,
    ),
    lambda url, text: (url + "#gallery", text),
    lambda url, text: (url + "#", f" {text}\t"),
    lambda url, text: (url, text.replace(" ", "\n   ", 2)),
    lambda url, text: (url, text.replace(" ", "&nbsp;", 1)),
    lambda url, text: (url, f"&#{ord(text[0])};{text[1:]}"),
)


def add_duplicates(site: Site) -> None:
    """Equal pairs of all kinds of pairs, in all ways of being equal. Comes last."""
    judged = [row for row in site.rows if row.reason not in _NOT_REPEATED]
    reasons = {row.reason for row in judged}
    local = [row for row in judged if row.url and "//localhost" in row.url]
    for reason in sorted(reasons, key=str):
        alike = [row for row in judged if row.reason == reason]
        for i, repeat in enumerate(_REPEATS):
            picked = site.rng.sample(alike, min(len(alike), site.plan.odd if reason is None else 1))
            for row in picked + (local[i :: len(_REPEATS)] if reason is None else []):
                _add_repeat(site, row, _REPEATS[0] if reason == "wrong_language" else repeat)
    decomposed = [
        row for row in judged if row.caption and "\u00e9" in row.caption and row.reason is None
    ]
    for row in decomposed:
        site.rows.append(_repeated(replace(row, caption=row.caption.replace("\u00e9", "e\u0301"))))
    for _ in range(
        site.plan.odd
    ):  # the default port; nobody listens there, but the text falls first
        bare = f"http://127.0.0.1/{len(site.rows)}.jpg"
        site.rows.append(WebPair(bare, "the house", "too_few_words"))
        site.rows.append(WebPair(bare.replace(".1/", ".1:80/"), "the house", "duplicate_pair"))


def _repeated(row: WebPair) -> WebPair:
    return replace(row, reason="duplicate_pair", detail=None)


def _add_repeat(site: Site, row: WebPair, repeat: Callable[[str, str], tuple[str, str]]) -> None:
    if "&" in (row.caption or ""):  # another case would break the entity
        repeat = _REPEATS[0]
    url, caption = repeat(row.url or "", row.caption or "")
    if caption == row.caption or site.languages.sure_english([kept_text(caption)]):
        site.rows.append(_repeated(WebPair(url, caption)))
