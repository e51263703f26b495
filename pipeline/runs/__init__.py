"""One run: its folder and lock, its documents, its engine and stores. Not what it computes."""
