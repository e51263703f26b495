"""One image once in a finished dataset: `alignset deduplicate OUT`. Which pairs leave is for
`transforms/duplicates/` to say; nothing is fetched.
"""
