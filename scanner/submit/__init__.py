"""Running memscan as a job on a Ray cluster."""
