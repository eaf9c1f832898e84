"""From the address of a shard to its captions and images: tar files, web servers, tables."""
