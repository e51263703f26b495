"""The dataset card: a README that tells a person, and the Hugging Face Hub, what a set is."""

from __future__ import annotations

import jinja2

from pipeline.report.funnel import render_funnel
from pipeline.runs.documents import Manifest, Step

_CARD = """\
---
pretty_name: {{ pairs }} image and alt-text pairs
task_categories: [zero-shot-image-classification, image-to-text, text-to-image]
{%- if manifest.rules.language %}
language: ["{{ manifest.rules.language }}"]
{%- endif %}
size_categories: [{{ size }}]
{%- if tars %}
configs:
  - config_name: default
    data_files:
      - split: train
        path: shards/*.tar
{%- if manifest.held_out %}
      - split: validation
        path: holdout/*.tar
{%- endif %}
{%- endif %}
---
# {{ pairs }} image and alt-text pairs

Made by alignset with the filters of ALIGN (Jia et al., 2021, section 3).

{% if tars -%}
- `shards/*.tar`: WebDataset, {{ tars }} shards, of `KEY.{{ extension }}`
  (the image), `KEY.txt` (the alt-text) and `KEY.json`. `shards/*.parquet`: the same pairs as
  columns, with perceptual hash, SHA-256 of the fetched bytes and sizes in px.
{%- if manifest.held_out %}
- `holdout/*.tar`, `.parquet`: {{ n(held_out) }} more pairs, which are held out to validate on.
{%- endif %}
{%- elif manifest.job.text_only -%}
- `pairs/*.parquet`: columns `key`, `url`, `caption`, `page_url`. The images were not fetched.
{%- else -%}
- No shards, since no pair was kept.
{%- endif %}
- `rejected/*.parquet`: every pair that was dropped, with its step, reason and detail.
- `funnel.json`: the counts below. `manifest.json`: rules, versions, input
{%- if tars %}, SHA-256 of each shard{% endif %}.

## What was dropped
```
{{ table }}
```

## Rules
| rule | value |
|---|---|
{%- for name, value in manifest.rules.items() %}
| `{{ name }}` | {{ value if value != "" else "(all)" }} |
{%- endfor %}

## Vocabulary
{% with known = manifest.vocabulary -%}
{% if manifest.given_vocabulary -%}
Texts were kept by the vocabulary of an earlier run: {{ n(known.vocabulary) }} unigrams and bigrams,
SHA-256 of their hashes {{ known.file.sha256 }}. Those of this input were not counted.
{%- else -%}
`{{ known.file.path }}` holds the hashes of the {{ n(known.vocabulary) }} most frequent of \
{{ n(known.ngrams) }} unigrams and bigrams,
{{ "{:.2%}".format(known.share_of_occurrences) }} of all that occur. \
{% if known.cut_off_count -%}
Of those that occur {{ n(known.cut_off_count) }} times some or all are left out, and all rarer ones.
{%- else -%}
None is left out.
{%- endif %}

| they occur | unigrams and bigrams | occurrences |
|---|---|---|
{%- for row in known.by_count %}
| {{ n(row.min_count) }}{{ " to " ~ n(row.max_count) if row.max_count > row.min_count }} \
{{ "time" if row.max_count == 1 else "times" }} | {{ n(row.ngrams) }} | {{ n(row.occurrences) }} |
{%- endfor %}
{%- endif %}
{%- endwith %}

## Evaluation images
{% if manifest.evaluation_images -%}
Near-duplicates of these evaluation images were taken out:
{% for name, set in manifest.evaluation_images.items() %}
- {{ name }}: {{ set.images }} images{% if set.unreadable %}, and {{ set.unreadable }} that could \
not be decoded and are **not** protected{% endif %}
{%- endfor %}
{%- else -%}
**No evaluation images were given, so copies of test sets may be in here.**
{%- endif %}

## Before you use it
Images and texts belong to those who published them. They come from the web as it is, with its
biases; nobody has looked at them one by one, and pornographic images are not filtered yet.
"""


def dataset_card(manifest: Manifest, steps: list[Step]) -> str:
    """The text of the card.

    Args:
      manifest: as it is written to manifest.json.
      steps: of the funnel.
    """
    original = manifest.resize["resize_mode"] == "original"
    extension = "jpg" if original else manifest.resize["encode_format"]
    environment = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    return environment.from_string(_CARD).render(
        manifest=manifest,
        held_out=sum(shard.pairs for shard in manifest.held_out.values()),
        tars=sum(1 for shard in manifest.shards.values() if shard.pairs),
        extension=extension,
        pairs=f"{manifest.pairs:,}",
        n="{:,}".format,
        size=size_category(manifest.pairs),
        table=render_funnel(steps),
    )


def size_category(pairs: int) -> str:
    """The Hugging Face Hub's name for a set of this size."""
    names = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    if pairs < 1000:
        return "n<1K"
    power = len(str(pairs)) - 4
    return f"{names[power]}<n<{names[power + 1]}" if power < 9 else "n>1T"
