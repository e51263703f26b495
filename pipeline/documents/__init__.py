"""Documents of a dataset: `describe`, and the card, Croissant, funnel and manifest that it writes.
Their counts come from `datasets`."""
