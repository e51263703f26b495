"""What a run tells at its end: the funnel, the card, what became of the fetches, the manifest."""
