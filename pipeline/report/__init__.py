"""What a run tells at its end: funnel, card, fetches, manifest. It counts nothing itself."""
