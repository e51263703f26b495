"""What a run tells, at its end or under way: funnel, card, manifest, `report.html`. It adds up what
shards recorded, and counts nothing else."""
