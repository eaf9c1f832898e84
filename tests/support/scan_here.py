"""A scan in this process, without Ray: what many nights cost."""

from dataclasses import replace

from scanner.engine.driver import scan
from scanner.engine.job import Job, Resources
from scanner.engine.worker import build_scanner


def scan_here(job: Job, resources=None, progress=lambda event: None, build=build_scanner):
    here = replace(resources or Resources(), local=True, device="cpu", threads=1, actors=None)
    return scan(job, here, progress, build=build)
