"""A scan's metrics, read from the endpoint of a real Ray as Prometheus reads them."""

import re
import time
import urllib.request

import ray
from engine_harness import job_of, run, write_shard

from scanner.engine import metrics
from scanner.spec import ScanSpec


def samples_of(run_id: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Scrape what memscan says of a run: labels and values by name."""
    (node,) = ray.nodes()
    with urllib.request.urlopen(f"http://127.0.0.1:{node['MetricsExportPort']}/metrics") as answer:
        text = answer.read().decode()
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for name, labels, value in re.findall(r"^(ray_memscan_\w+)\{(.*)\} (\S+)$", text, re.M):
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if tags["run"] == run_id:
            found.setdefault(name, []).append((tags, float(value)))
    return found


def test_a_scan_is_on_the_endpoint_that_prometheus_reads(tmp_path):
    whole = write_shard(tmp_path / "whole.tar", [" ", *(f"caption {n}" for n in range(8))])
    cut = tmp_path / "cut.tar"
    cut.write_bytes(whole.read_bytes()[:4000])
    # A run of its own: counters are the process's, and the other tests here scan as well.
    spec = ScanSpec(steps=2, probes=1, threshold=0.0, guidance_scale=7.25)
    summary = run(job_of([whole, cut], tmp_path / "results", spec=spec))
    trouble = {"retries", "quarantined_chunks", "actors_lost"}
    expected = {f"ray_{name}" for name in metrics.NAMES}
    expected -= {f"ray_memscan_{name}_total" for name in trouble}  # nothing of the kind happened
    expected -= {f"ray_{metrics.CHUNK}"}
    expected |= {f"ray_{metrics.CHUNK}_{part}" for part in ("bucket", "count", "sum")}
    # Ray's processes report on their own clocks: gauges may come a scrape after the counters.
    patience, found = time.monotonic() + 60, samples_of(summary.run)
    while time.monotonic() < patience:
        names = ("ray_memscan_samples_total", "ray_memscan_run_samples")
        reported = [found[name][0][1] for name in names if name in found]
        if reported == [summary.samples] * 2 and set(found) == expected:
            break
        time.sleep(0.5)
        found = samples_of(summary.run)
    assert set(found) == expected
    committed = found["ray_memscan_samples_total"][0]
    assert committed[1] == found["ray_memscan_run_samples"][0][1] >= 9
    assert {tags["reason"] for tags, _ in found["ray_memscan_rejected_total"]} >= {"empty_caption"}
    assert found["ray_memscan_problems_total"][0][1] == 1
    assert "/" in found["ray_memscan_actor_captions_per_second"][0][0]["actor"]
