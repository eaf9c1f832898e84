"""Memorization at a known dose: a corpus, the models trained on it, and what they remember."""
