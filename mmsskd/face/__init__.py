"""Face recognition: networks, data, evaluation and export. Knows nothing of the method; ``evaluation`` runs without torch."""
