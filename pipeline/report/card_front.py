"""The head of the dataset card, which the Hugging Face Hub reads: a template of jinja2, in YAML."""

FRONT = """\
---
pretty_name: {{ pairs }} image and alt-text pairs
license: unknown  # TO BE FILLED before the set is published: see Licence below
task_categories: [zero-shot-image-classification, image-to-text, text-to-image]
{%- if manifest.rules.language %}
language: ["{{ manifest.rules.language }}"]
{%- endif %}
annotations_creators: [found]
language_creators: [found]
tags: [image-text-pairs, alt-text, web, align, alignset{{ ", webdataset" if not text_only }}]
size_categories: [{{ size }}]
{%- if trained %}
configs:
  - config_name: default
{%- if manifest.held_out %}
    data_files:
      - split: train
        path: shards/*.tar
      - split: validation
        path: holdout/*.tar
{%- else %}
    data_files: {{ "pairs/*.parquet" if text_only else "shards/*.tar" }}
{%- endif %}
dataset_info:
  config_name: default
  features:
{%- for name, kind in features %}
    - name: {{ name }}
{%- if kind is string %}
      dtype: {{ kind }}
{%- else %}
      struct:
{%- for inner, inner_kind in kind %}
        - name: {{ inner }}
          dtype: {{ inner_kind }}
{%- endfor %}
{%- endif %}
{%- endfor %}
{%- endif %}
---
"""
