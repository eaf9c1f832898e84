"""Whether two pictures are the same: pixels, sketches, the search for copies."""
