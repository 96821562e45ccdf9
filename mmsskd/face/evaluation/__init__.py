"""Evaluation of face embeddings. Nothing here imports torch but ``metrics``, which plugs it into MMEngine."""
