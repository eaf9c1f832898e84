"""Metrics on the endpoint of a real Ray, and a dashboard that asks for no other."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import ray
import yaml
from webdataset.writer import TarWriter

from scanner.engine import metrics

INFRA = Path(__file__).parents[2] / "infra"
DASHBOARD = json.loads((INFRA / "grafana" / "memscan.json").read_text())

SCAN = """
import os, sys, time, urllib.request

os.environ["RAY_metrics_report_interval_ms"] = "1000"
import ray
from scanner.engine import Job, Resources, scan
from scanner.spec import ScanSpec

shards, results, port = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
ray.init(address="local", include_dashboard=False, log_to_driver=False, num_cpus=2,
         _metrics_export_port=port, object_store_memory=100 * 2**20)
job = Job(model="gaussian", shards=tuple(shards), results=results, chunk_size=4,
          spec=ScanSpec(steps=2, probes=1, threshold=0.0))
summary = scan(job, Resources(actors=1, device="cpu"), lambda event: None)
for _ in range(60):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            text = answer.read().decode()
    except OSError:
        text = ""
    lines = [line for line in text.splitlines() if line.startswith("ray_memscan_")]
    samples = [line for line in lines if line.startswith("ray_memscan_samples_total")]
    if samples and samples[0].endswith(f" {float(summary.samples)}"):
        break
    time.sleep(0.5)
print("\\n".join(lines))
"""


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for line in text.splitlines():
        name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        found.setdefault(name, []).append((tags, float(value)))
    return found


def test_a_scan_is_on_the_endpoint_that_prometheus_reads(tmp_path):
    whole, cut = tmp_path / "whole.tar", tmp_path / "cut.tar"
    with TarWriter(str(whole)) as writer:
        for number in range(9):
            text = f"caption {number}" if number else " "
            writer.write({"__key__": f"{number:03d}", "txt": text.encode()})
    cut.write_bytes(whole.read_bytes()[:4000])
    done = subprocess.run(
        [sys.executable, "-c", SCAN, f"{whole},{cut}", str(tmp_path / "r"), str(free_port())],
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = samples(done.stdout)
    trouble = {"retries", "quarantined_chunks", "actors_lost"}
    expected = {f"ray_{name}" for name in metrics.NAMES}
    expected -= {f"ray_memscan_{name}_total" for name in trouble}  # nothing of the kind happened
    expected -= {f"ray_{metrics.CHUNK}"}
    expected |= {f"ray_{metrics.CHUNK}_{part}" for part in ("bucket", "count", "sum")}
    assert set(found) == expected
    committed = found["ray_memscan_samples_total"][0]
    assert committed[1] == found["ray_memscan_run_samples"][0][1] >= 9
    assert {tags["reason"] for tags, _ in found["ray_memscan_rejected_total"]} >= {"empty_caption"}
    assert found["ray_memscan_problems_total"][0][1] == 1
    assert all(tags["run"] for entries in found.values() for tags, _ in entries)
    assert "/" in found["ray_memscan_actor_captions_per_second"][0][0]["actor"]


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def test_the_dashboard_asks_for_metrics_that_there_are_and_for_every_one():
    asked = {name for text in expressions() for name in re.findall(r"ray_memscan_\w+", text)}
    emitted = {f"ray_{name}" for name in metrics.NAMES if name != metrics.CHUNK}
    emitted.add(f"ray_{metrics.CHUNK}_bucket")
    assert asked <= emitted
    assert emitted - asked <= {"ray_memscan_chunks_total", "ray_memscan_actor_denoiser_share"}
    own = {n for text in expressions() for n in re.findall(r"ray_node_\w+", text)}
    source = Path(ray.__file__).parent / "dashboard" / "modules" / "reporter" / "reporter_agent.py"
    text = source.read_text()
    assert own
    assert all(f'"{name.removeprefix("ray_")}"' in text for name in own)


def test_panels_do_not_overlap_and_scrapes_keep_what_the_dashboard_asks_for():
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    (scrape,) = yaml.safe_load((INFRA / "prometheus.yml").read_text())["scrape_configs"]
    (keep,) = scrape["metric_relabel_configs"]
    names = {n for text in expressions() for n in re.findall(r"ray_\w+", text)}
    assert all(re.fullmatch(keep["regex"], name) for name in names)
