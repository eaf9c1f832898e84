"""Comparison of pictures: pixels, sketches, the search for copies."""
