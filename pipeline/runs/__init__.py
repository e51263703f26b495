"""One run: its folder and lock, its engine, the stores it reads and writes."""
