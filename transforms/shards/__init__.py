"""The image stage: the plan, the images as they arrive, their verdicts by the rules, the files.

How an image is fetched is for `fetching` to say, and what it is, for `images`.
"""
