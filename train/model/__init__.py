"""The two towers and their tokenizer, and how published weights become ours. No training."""
