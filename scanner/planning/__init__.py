"""The cost of a scan, estimated before it runs."""
