"""Distribution and nothing else: hands chunks to actors, counts, retries, resumes.

The only room that knows Ray.
"""

from scanner.engine.cluster import cluster
from scanner.engine.driver import scan
from scanner.engine.job import Event, Job, Resources, Summary

__all__ = ["Event", "Job", "Resources", "Summary", "cluster", "scan"]
