"""Some pairs of a dataset, on a page of HTML and as a table of text: `alignset look OUT`. Nothing
here changes a dataset, and nothing is fetched."""
