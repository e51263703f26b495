"""Images of evaluation sets, and what is near them. Not what is near within a dataset."""
