"""The words of the dataset card below its head, as a template of jinja2; `card` fills it."""

BODY = """\
# {{ pairs }} image and alt-text pairs

Made by alignset with the filters of ALIGN (Jia et al., 2021, section 3), set as under Rules.

{% if text_only -%}
- `pairs/*.parquet`: columns `key`, `url`, `caption`, `page_url`. The images were not fetched.
{%- elif not filled -%}
- No shards to train on.
{%- else -%}
- `shards/*.tar`: WebDataset, {{ n(filled) }} {{ "shard" if filled == 1 else "shards" }}, of
  `KEY.{{ extension }}` (the image), `KEY.txt` (the alt-text) and `KEY.json`.
  `shards/*.parquet`: the same pairs as columns, with perceptual hash, SHA-256 of the fetched
  bytes and sizes in px.
{%- if manifest.held_out %}
- `holdout/*.tar`, `.parquet`: {{ n(held_out) }} of these pairs, which are held out to validate on,
  by the hash of their image's URL: the same picture at another URL may be in `shards/`.
{%- endif %}
{%- endif %}
- `rejected/*.parquet`: every pair that was dropped, with its step, reason and detail.
- `funnel.json`: the counts below. `manifest.json`: rules, versions, input
{%- if filled %}, SHA-256 of each shard{% endif %}.
- `datasheet.md`: the questions of *Datasheets for Datasets*, answered where the run can tell.
  `croissant.json`: the same set for machines, as Croissant describes sets.

![{{ pairs }} pairs were kept: what each step kept and dropped](funnel.svg)

{% if manifest.takedowns -%}
## Taken down
Pairs were taken out of this set after it was made. `rejected/` names them as `taken_down`, and
`taken_down.u64` holds their keys, for whatever was made of the set before.
{% for taken in manifest.takedowns -%}
- {{ taken.day }}: {{ n(taken.pairs) }} pairs, by {% for list in taken.lists -%}
{{ code(list.name) }}{{ ", " if not loop.last }}{% endfor %}
{% endfor %}
{% endif -%}
## Licence, opt-outs and takedown
**Licence: to be filled by whoever publishes this set.** The images and texts belong to those who
published them, and nobody was asked. alignset's own licence is that of its code alone. No
licence is on record for any of the {{ pairs }} pairs: neither the sources nor the answers of the
web were asked for one.

{{ heeded }}
{% if opt_outs -%}
So many pairs are not in the set since somebody did not want them used:

| how that was said | pairs |
|---|---|
{%- for name, count in opt_outs.items() %}
| `{{ name }}` | {{ n(count) }} |
{%- endfor %}
{%- else -%}
No pair was left out for such a wish.
{%- endif %}

{% if contact -%}
To have an image or a text taken out, turn to {{ code(contact) }} and name its URL.
{%- else -%}
**Contact for takedowns: to be filled by whoever publishes this set** (no `--contact` was given).
{%- endif %}

## Sources
{% for line in sources -%}
- {{ line }}
{% endfor %}
{%- if broken %}
{{ n(broken.broken) }} of these files could not be read to their end, and what could not be read is
missing: `funnel.json` names them.
{% endif %}
{%- if days %}
The archives say that their pages were crawled {{ days }}.
{% endif %}
{%- if text_only %}
No image was fetched.
{% elif fetched %}
The images were fetched {{ fetched }} (UTC, by when the shards were written).
{% elif manifest.pairs %}
The images were taken as they lie in the given shards. {% if fetched_before -%}
They were fetched for {{ fetched_before }} (UTC); of others nothing here tells when.
{%- else %}Nothing here tells when those were fetched.{% endif %}
{% endif %}
{%- if contents.examples %}
## What is in it
{% if contents.quantiles -%}
| {% for q in quantiles %}| {{ q }} {% endfor %}|
|---{% for q in quantiles %}|---{% endfor %}|
{%- for name, values in contents.quantiles.items() %}
| {{ name }} {% for value in values %}| {{ n(value) }} {% endfor %}|
{%- endfor %}

So much, or less, have these shares of the images and texts, measured on {{ n(contents.pairs) }}
pairs in {{ n(contents.shards) }} of the shards. All tars take {{ n(contents.tar_bytes) }} bytes,
which is {{ n(contents.tar_bytes // trained) }} a pair.

{% endif -%}
The first pairs{% if not text_only %}, in the order of their keys{% endif %}. Long ones are cut.

```json
{% for example in contents.examples -%}
{{ example }}
{% endfor -%}
```
{% endif %}
{%- if trained %}
## Load
In this folder:

```python
import os

import datasets

# Or the set's name on the Hub; "." alone is refused.
pairs = datasets.load_dataset(os.getcwd(), split="train")
```

```python
import glob

import pandas
import pyarrow.dataset

files = sorted(glob.glob("{{ "pairs" if text_only else "shards" }}/*.parquet"))
{%- if not text_only %}  # a read of the folder would take tars for Parquet{% endif %}
frame = pandas.read_parquet(files)
table = pyarrow.dataset.dataset(files).to_table()
```

```python
import duckdb

print(duckdb.sql("select url, caption from '{{ "pairs" if text_only else "shards" }}/*.parquet'"))
```
{% if not text_only %}
```python
import os
import tempfile

# Or what was unpacked of another set is taken for this one, since only paths are compared.
os.environ["CROISSANT_CACHE"] = tempfile.mkdtemp()

import mlcroissant

described = mlcroissant.Dataset("croissant.json")
pair = next(iter(described.records("train")))
```

`webdataset` reads the tars; 0.2.86 to 1.0.2 were tried. open_clip 3.3 trains on them with the
`webdataset` that its own pins allow, which is 0.2.86 or older:

```sh
python -m open_clip_train.main --dataset-type webdataset --train-num-samples {{ trained }} \\
  --train-data "{{ tars }}" --model ViT-B-32
```
{% endif %}
{%- endif %}
## What was dropped
```
{{ table }}
```

{% for stage in stages -%}
### Before that: `{{ stage.folder }}`
A set{% if stage.table %} of {{ n(stage.pairs) }} pairs{% endif %}, of which this one was made.
The folder has its documents and what was dropped from it.
{% for line in stage.sources -%}
- {{ line }}
{% endfor %}
{%- if stage.table %}
```
{{ stage.table }}
```
{% endif %}
{%- if stage.rules %}
Rules that differed:
{% for name, value in stage.rules.items() -%}
- {{ name }} {{ value if value != "``" else "(all)" }}
{% endfor %}{% endif %}
{% endfor -%}
## What is not filtered
{% for line in unfiltered -%}
- {{ line }}
{% endfor %}
## Make it again
```sh
{% for command in commands -%}
{{ command }}
{% endfor -%}
```

The same input and the same answers of the web give the same bytes. The files are named without the
folders that they were in; `manifest.json` has their sizes, and the versions of all that decides:
{% for name, version in manifest.versions.items() -%}
{{ name }} {{ version }}{{ ", " if not loop.last else "." }}
{%- endfor %}

## Rules
| rule | value |
|---|---|
{%- for name, value in manifest.rules.items() %}
| `{{ name }}` | {{ value if value != "" else "(all)" }}{{ also_before.get(name, "") }} |
{%- endfor %}

{% if manifest.blocklists -%}
## Blocklists
Pairs on one of these lists were dropped as `blocked`:
{% for list in manifest.blocklists -%}
- {{ code(list.name) }}: {% for kind, count in list.entries.items() -%}
{{ n(count) }} {{ kind }}{{ ", " if not loop.last }}{% endfor %}; SHA-256 {{ list.sha256 }}
{% endfor %}
{% endif -%}
{% if blocked_before -%}
{% if not manifest.blocklists %}## Blocklists
{% endif -%}
Earlier sets, of which this one was made, had dropped pairs by these lists:
{% for line in blocked_before -%}
- {{ line }}
{% endfor %}
{% endif -%}
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
{%- if vocabularies %}

Before that, the texts of earlier sets were kept by vocabularies of so many unigrams and bigrams:
{% for line in vocabularies -%}
- {{ line }}
{% endfor %}
{%- endif %}

## Evaluation images
{% if manifest.evaluation_images -%}
{%- set measure = manifest.overlap.measure if manifest.overlap else "phash" -%}
{%- set distance = manifest.rules.min_evaluation_distance -%}
{% if measure == "phash" -%}
An image was taken out where its perceptual hash (64 bits, pHash) differs from that of one of these
evaluation images by fewer than {{ distance }} bits:
{% elif measure == "embedding" -%}
An image was taken out where 1 less the cosine of its embedding and that of one of these evaluation
images is below {{ distance }} (the model's SHA-256 begins with
{{ manifest.overlap.model[:12] }}, {{ manifest.overlap.search }} search):
{% else -%}
An image was taken out where it was told to be a copy of one of these evaluation images: its
distance by the measure `copy` (0 to 2) is below {{ distance }}:
{% endif %}
{%- for name, set in manifest.evaluation_images.items() %}
- {{ name }}: {{ counted(set.images, "image") }}{% if set.unreadable %}, and \
{{ set.unreadable }} that could not be decoded and are **not** protected{% endif %}
{%- endfor %}

{% if measure == "phash" -%}
This measure is for copies that were recompressed or resized. Copies that were cropped, mirrored,
turned or drawn over are mostly **not** found.
{%- elif measure == "embedding" -%}
How many copies this model finds at this distance was not measured here.
{%- else -%}
Of photographs that were recompressed, resized, recoloured, cropped to 80 %, mirrored, framed or
drawn over a little, this measure found 95 to 98 of 100 where that was tried. Of drawings, charts
and screenshots it found 89, and of stronger changes fewer. It also drops some pictures that are no
copies, mostly charts and drawings of one family.
{%- endif %}
{%- elif evaluated -%}
No evaluation images were given to this run.
{%- else -%}
**No evaluation images were given, so copies of test sets may be in here.**
{%- endif %}
{%- if evaluated %}

Earlier sets, of which this one was made, had been compared with evaluation images, and what was
told to be a copy was taken out. This holds for the pairs that they kept; copies may be among
others.
{% for line in evaluated -%}
- {{ line }}
{% endfor %}
{%- endif %}
"""
