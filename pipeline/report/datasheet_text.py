"""The questions of the datasheet, each with what a run can answer, as templates of jinja2.

Source: Gebru et al., *Datasheets for Datasets*, 2021: its questions, in our words and its order.
"""

from __future__ import annotations

from typing import NamedTuple


class Question(NamedTuple):
    """A question, with what is answered by the run; "" where only a person can.

    Attributes:
      person: what a person still has to say, though the run has answered a part; "" for nothing.
    """

    asked: str
    answer: str = ""
    person: str = ""


MOTIVATION = (
    Question(
        "For what purpose was the set created?",
        "To train a dual encoder of images and texts, as ALIGN (Jia et al., 2021) did: the set was "
        "made by alignset with the filters of that paper.",
        "which task or gap it is for",
    ),
    Question("Who created it, and on behalf of whom?"),
    Question("Who paid for its creation?"),
)
COMPOSITION = (
    Question(
        "What do the instances represent?",
        "{% if text_only %}URLs of images on the web, each with an alt-text.{% else %}Images from "
        "the web, each with an alt-text.{% endif %} They are of one type.",
    ),
    Question(
        "How many instances are there?",
        "{{ n(manifest.pairs) }} pairs{% if held_out %}, of which {{ n(held_out) }} are held out"
        "{% endif %}.",
    ),
    Question(
        "Are these all possible instances, or a sample?",
        "Neither: they are what {{ n(seen) }} pairs of the input became by the rules ("
        "{{ '{:.1%}'.format(manifest.pairs / seen) if seen else 'none' }} were kept). The set does "
        "not represent the web: the rules of language, words, sizes and frequency choose.",
        "how the input itself was chosen",
    ),
    Question(
        "What does each instance consist of?",
        "{% if text_only %}`key`, `url`, `caption` and `page_url`.{% elif original %}The image, "
        "whose bytes stay as they were fetched where trainers can read them; the alt-text; "
        "{{ columns }}.{% else %}The image, resized to `{{ manifest.resize.resize_mode }}` of "
        "{{ manifest.resize.image_size }} px as {{ manifest.resize.encode_format }}; the alt-text; "
        "{{ columns }}.{% endif %}",
    ),
    Question(
        "Is there a label or a target?",
        "No. The alt-text serves as one: somebody wrote it for people who do not see the image.",
    ),
    Question(
        "Is anything missing from instances?",
        "`page_url` is null where the input names no page. Nothing tells who made an image or who "
        "wrote a text, or under which licence.{% if failed %} {{ counted(failed, 'image') }} could "
        "not be fetched, and their pairs are not in the set; `rejected/` has each of them with the "
        "reason.{% endif %}{% if broken %} {{ counted(broken, 'input file') }} could not be read "
        "to the end.{% endif %}",
    ),
    Question(
        "Are relations between instances explicit?",
        "Pairs of one image have the same `url` and are in one shard. Pairs of one page have the "
        "same `page_url`.",
    ),
    Question(
        "Are there recommended splits?",
        "{% if held_out %}`shards/` to train on and `holdout/` to validate on, by the hash of the "
        "image's URL; the same picture at another URL may be on the other side.{% else %}No."
        "{% endif %}",
    ),
    Question(
        "Are there errors, noise or redundancies?",
        "Yes. Texts may be wrong, or say nothing of the image; no model has compared the two."
        "{% if near %} {{ n(near.images) }} images have the perceptual hash of another, in "
        "{{ n(near.hashes) }} groups, and stay.{% endif %}",
    ),
    Question(
        "Is the set self-contained?",
        "{% if text_only %}No: the images are links to the web, which changes. Nothing promises "
        "that they stay, and no archive of them was made.{% else %}Yes: the images and texts are "
        "in the shards. URLs are kept for reference.{% endif %}",
    ),
    Question(
        "Might it hold what is confidential?",
        "{% if fetched and not private %}Its images could be fetched from public addresses without "
        "a password, which does not mean that they were meant to be public.{% elif private %}"
        "Images were fetched from private addresses too (`--allow_private_addresses`).{% endif %}",
        "whether the input was public",
    ),
    Question(
        "Might it hold what is offensive or frightening?",
        "Yes. {% for line in unfiltered %}{{ line }} {% endfor %}",
    ),
    Question(
        "Does it tell of groups of people, as by age or gender?",
        "No column does. Images and texts show and name people of all groups; nobody has counted.",
    ),
    Question(
        "Can persons be identified?",
        "Yes: images show faces, and texts and URLs have names. Nothing was blurred or taken out.",
    ),
    Question(
        "Does it hold what is sensitive, as of health, belief or origin?",
        "It may, in images and in texts: no rule looks for it.",
    ),
)
COLLECTION = (
    Question(
        "How was each instance acquired?",
        "By a program, as it lies on the web: the text as it was written there"
        "{% if not text_only %}, the image by its URL{% endif %}. Nobody has checked it by eye.\n"
        "{% for line in sources %}\n- {{ line }}{% endfor %}",
    ),
    Question(
        "By what mechanisms was it collected?",
        "alignset, with the versions and the rules in `manifest.json`; the card has the command. "
        "{{ heeded }}",
    ),
    Question(
        "If it is a sample, how was it drawn?",
        "By rules and not by chance, see the card under Rules.",
        "how the input was drawn",
    ),
    Question("Who took part in the collection, and how were they paid?"),
    Question(
        "When was it collected?",
        "{% if days %}The pages were crawled {{ days }}. {% endif %}{% if fetched %}The images "
        "were fetched {{ fetched }} (UTC).{% else %}No image was fetched by this run.{% endif %}"
        "{% if fetched_before %} Before that, images were fetched for {{ fetched_before }} (UTC)."
        "{% endif %} "
        "Images and texts may be much older.",
    ),
    Question("Was there an ethical review?"),
    Question(
        "Was it collected from the people themselves, or through others?",
        "Through others: from the hosts of web pages and images.",
    ),
    Question("Were the people concerned told of it?", "No."),
    Question(
        "Did they agree?",
        "No, nobody was asked. {{ heeded }}{% if opt_outs %} So many pairs were left out for such "
        "a wish: {% for name, count in opt_outs.items() %}`{{ name }}` {{ n(count) }}"
        "{{ ', ' if not loop.last else '.' }}{% endfor %}{% else %} No pair was left out for such "
        "a wish.{% endif %}",
    ),
    Question(
        "How can they withdraw?",
        "{% if contact %}By turning to {{ code(contact) }} with the URL.{% endif %}",
        "{% if not contact %}whom to turn to (no `--contact` was given){% endif %}",
    ),
    Question("Was the effect on the people concerned analysed?"),
)
PREPROCESSING = (
    Question(
        "Was the data cleaned or changed?",
        "Texts: HTML entities decoded, Unicode's NFC, white space collapsed. {% if text_only %}No "
        "image was fetched.{% elif original %}Images: JPEG, PNG and WebP keep their bytes; others "
        "became PNG.{% else %}Images: each was resized and encoded anew.{% endif %} What was "
        "dropped, by step:\n{% for step in steps %}\n- {{ step.step }}: "
        "{{ n(step.seen - step.kept) }} of {{ n(step.seen) }}{% endfor %}",
    ),
    Question(
        "Was the raw data kept too?",
        "`rejected/` has each pair that was dropped, without its image.",
        "whether the input itself is kept",
    ),
    Question("Is the software to be had?", "Yes: alignset, under the Apache License 2.0."),
)
USES = (
    Question("Has the set been used already?"),
    Question("Is there a list of works that use it?"),
    Question(
        "What else could it be used for?",
        "Retrieval between images and texts, classification by texts, the study of alt-texts.",
    ),
    Question(
        "Could its composition affect later uses?",
        "Yes. It has the biases of the web, of its {{ 'languages' if not manifest.rules.language "
        "else 'language (' ~ manifest.rules.language ~ ')' }}, and of those who write alt-texts. "
        "{% if manifest.evaluation_images %}Copies of these evaluation images were taken out, as "
        "far as they were found: {{ manifest.evaluation_images | join(', ') }}. Copies of any "
        "other test set{% elif evaluated %}No evaluation images were given to this run. Copies of "
        "any test set but those below{% else %}No evaluation images were taken out: copies of test "
        "sets{% endif %} may be in it.{% if evaluated %} Earlier sets, of which it was made, had "
        "been compared with evaluation images, which holds for the pairs that they kept:\n"
        "{% for line in evaluated %}\n- {{ line }}{% endfor %}{% endif %}",
    ),
    Question(
        "What should it not be used for?",
        "To identify people, or to decide about them. To publish images: they belong to others.",
        "what else",
    ),
)
DISTRIBUTION = (
    Question("Will it be given to others?"),
    Question(
        "How is it distributed?",
        "As WebDataset shards or Parquet files, with `croissant.json` and a card that the Hugging "
        "Face Hub reads.",
        "where, and under which DOI",
    ),
    Question("When is it distributed?"),
    Question("Under which licence or terms?"),
    Question(
        "Have others rights in the data?",
        "Yes: images and texts belong to those who published them. No licence of theirs is on "
        "record.",
    ),
    Question("Do export controls or other rules apply?"),
)
MAINTENANCE = (
    Question("Who looks after the set?"),
    Question(
        "How can they be reached?",
        "{% if contact %}{{ code(contact) }}{% endif %}",
        "{% if not contact %}an address (no `--contact` was given){% endif %}",
    ),
    Question("Is there a list of errors?"),
    Question(
        "Will it be updated?",
        "{% if retries %}{{ retries }} times images were fetched again and added. {% endif %}"
        "`manifest.json` has the SHA-256 of each shard, by which versions are told apart.",
        "whether, how often and by whom",
    ),
    Question("Are there limits on how long data about people may be kept?"),
    Question("Will older versions be kept?"),
    Question(
        "Can others add to it?",
        "With alignset, a set can be the input of another: rules changed, a crawl added. The new "
        "set carries along how this one was made.",
        "whether such additions are taken in",
    ),
)
SECTIONS = {
    "Motivation": MOTIVATION,
    "Composition": COMPOSITION,
    "Collection": COLLECTION,
    "Preprocessing": PREPROCESSING,
    "Uses": USES,
    "Distribution": DISTRIBUTION,
    "Maintenance": MAINTENANCE,
}
