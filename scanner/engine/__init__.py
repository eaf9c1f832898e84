"""Chunks to workers: hands out, counts, retries, resumes; on Ray or in this process.

`scanner.engine.runtime` is what the loop asks of either; a run that is complete needs neither.
What imports Ray is the modules cluster, ray_runtime, score_index, heartbeat, metrics, health and
authentication.
"""

from scanner.engine.driver import scan
from scanner.engine.job import Event, Job, Resources, Summary

__all__ = ["Event", "Job", "Resources", "Summary", "scan"]
