"""One dataset, or two side by side, as a page for a browser: `alignset report OUT`. `datasets`
finds its facts.
"""
