"""The dashboard asks for metrics that there are, and scrapes keep what it asks for."""

import json
import re
from pathlib import Path

import ray
import yaml

from scanner.engine import metrics

INFRA = Path(__file__).parents[2] / "infra"
DASHBOARD = json.loads((INFRA / "grafana" / "memscan.json").read_text())


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
