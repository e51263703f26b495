"""One set, or two side by side, as a page for a browser: `alignset report OUT`. What it tells is
found in `datasets`."""
