"""Search of images by text, by image, by both: `alignset search`. The index, the
arithmetic of queries, and the page. Nothing is trained or scored here."""
