"""Shards in, an ALIGN model out. Imports nothing of the pipeline.

Opens no connection but to where a model is that is named, and not a folder.
"""

import os

# Before torch is imported: its threads wait for each other by spinning, and where another program
# has the core, that takes the time which the thread waited for needs. On 2 cores, a step of `tiny`
# took 0.16 s alone and 6 s beside busy neighbours; with few spins, 0.8 s beside the same.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
