"""What a scan will cost, before it runs."""
