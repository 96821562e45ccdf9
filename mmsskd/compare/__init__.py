"""Ways of training one student, side by side at equal cost: what tools/compare.py does."""
