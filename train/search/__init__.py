"""Search of pictures by text, by picture, by both: `alignset search`. The index, the
arithmetic of queries, and the page. Nothing is trained or scored here."""
