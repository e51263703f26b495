"""Shards in, an ALIGN model out. Imports nothing of the pipeline and opens no connection."""

import os

# Before transformers is imported: every file it needs lies in the run folder, and without this it
# asks a server about each tokenizer that it loads.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
