"""The two towers and their tokenizer, and how published weights become ours. No training."""

EXPORT_DOCUMENT = "export.json"  # of a folder of `alignset export`
