"""Some pairs of a dataset as an image and a table, without a browser: `alignset look OUT`.
Nothing here changes a dataset, and nothing is fetched."""
