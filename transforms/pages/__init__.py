"""Web pages and archives of them to pairs of image URL and alt-text. Pairs are judged in `pairs`
and `corpus`."""
