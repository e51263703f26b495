"""A worker's own state: its threads, its attempts, the versions it runs, its counts. Not what it
works on."""
