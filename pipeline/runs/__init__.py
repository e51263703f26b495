"""One run: its folder and lock, its documents, its runner and stores. Not what it computes."""
