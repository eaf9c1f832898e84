"""The stages of a scan as pure functions from a batch to a batch."""
