"""What a worker is and owes: its threads, fences and claims, the versions it runs, what it counts.
Not what it works on."""
