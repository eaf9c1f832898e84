"""Calibration: p-values, thresholds, intervals, families of captions."""
