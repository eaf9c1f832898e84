"""What is read from results: queries, calibration, evaluation against a truth, pictures."""
