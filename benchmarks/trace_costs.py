"""The largest costs in traces of ``memscan scan --profile``: their operations' own time.

    python benchmarks/trace_costs.py TRACE.json.gz [TRACE.json.gz ...] [--most 5]

An operation's own time leaves out what it calls. Shares are of all recorded batches. Of a trace
with a GPU they are of the time that its kernels and copies take, added up over streams. Of
several traces of one scan, on a machine that does other work too, each operation counts with the
least time that it took at its place.
"""

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

HOST, DEVICE = ("cpu_op", "user_annotation"), ("kernel", "gpu_memcpy", "gpu_memset")


def events_of(path: Path) -> list[dict[str, Any]]:
    """Return the events of a trace that have a duration."""
    content = json.loads(gzip.decompress(path.read_bytes()))
    return [event for event in content["traceEvents"] if event.get("ph") == "X"]


def own_times(events: Iterable[dict[str, Any]]) -> list[tuple[str, float]]:
    """Return operations in order with their microseconds, without what they call."""
    ordered = sorted(events, key=lambda event: (event["ts"], -event["dur"]))
    own = [event["dur"] for event in ordered]
    threads = dict[Any, list[int]]()
    for place, event in enumerate(ordered):
        around = threads.setdefault(event["tid"], [])
        while around and _end(ordered[around[-1]]) <= event["ts"]:
            around.pop()
        if around:
            own[around[-1]] -= event["dur"]
        around.append(place)
    return [(event["name"], time) for event, time in zip(ordered, own, strict=True)]


def _end(event: dict[str, Any]) -> float:
    return event["ts"] + event["dur"]


def times_of(events: list[dict[str, Any]]) -> list[tuple[str, float]]:
    """Return operations in order with their time; kernels and copies, if there are any."""
    on_device = [event for event in events if event.get("cat") in DEVICE]
    if on_device:
        return [(event["name"], event["dur"]) for event in on_device]
    return own_times(event for event in events if event.get("cat") in HOST)


def shares(traces: Sequence[list[tuple[str, float]]]) -> dict[str, float]:
    """Return the share of every operation, the largest first.

    Args:
        traces: Of one scan: the same operations in the same order.

    Raises:
        SystemExit: If they are of several.
    """
    names = [[name for name, _ in trace] for trace in traces]
    if any(own != names[0] for own in names):
        raise SystemExit("the traces are of different scans: their operations differ")
    found = Counter[str]()
    for each in zip(*traces, strict=True):
        found[each[0][0]] += min(time for _, time in each)
    whole = sum(found.values())
    return {name: time / whole for name, time in found.most_common()}


def main() -> None:
    """Print the largest."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("traces", type=Path, nargs="+")
    asked.add_argument("--most", type=int, default=5)
    found = asked.parse_args()
    times = [times_of(events_of(trace)) for trace in found.traces]
    for name, share in list(shares(times).items())[: found.most]:
        print(f"{share:6.1%}  {name}")


if __name__ == "__main__":
    main()
