"""Images of evaluation sets, and what is near them."""
