"""How likely one image is unsafe, by a classifier: its file, what it is shown, and its score.

Above which score an image goes is not known here.
"""
