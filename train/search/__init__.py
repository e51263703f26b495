"""Search of pictures by text, by picture, by both: `python -m train.search`. The index, the
arithmetic of queries, and the page. Nothing is trained or scored here."""
