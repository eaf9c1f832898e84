"""Shards in, Parquet out: the only room that opens a shard or writes a result."""
