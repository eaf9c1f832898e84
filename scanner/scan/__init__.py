"""Captions in memory to records: opens no file, knows no cluster."""
