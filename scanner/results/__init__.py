"""Results on disk: stores, tables, commits, compaction, verification, the lease of a run."""
