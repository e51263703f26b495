"""Some pairs of a set as a picture and a table, without a browser: `alignset look OUT`.
Nothing here changes a set, and nothing is fetched."""
