"""A worker's own state: its threads, fences and claims, the versions it runs, its counts. Not what
it works on."""
