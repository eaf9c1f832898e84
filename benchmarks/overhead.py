"""What scanning costs beyond the denoiser, with the shipped model: one actor, and two.

The last lines say where the actors' time went: forward evaluations of the network, products, and
what is around them.

Measures, in one run on one machine: the wall time of `scan` with one actor of one thread; the
time of the bare denoiser calls that it made, of the same shapes and in the same number, in a
worker of Ray's with one thread and nothing around them; and `scan` with two actors of one thread.

    python benchmarks/overhead.py [--captions N] [--source image] [--out overhead.json]

At images the bare calls are the autoencoder's, image by image, and one evaluation of both branches.

Excluded in the second figures, and shown in the first: starting actors and loading the model,
until the first actor is handed a task. Ray itself is started before any clock.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanner.spec import ScanSpec

os.environ["OMP_NUM_THREADS"] = "1"

CHUNK, BATCH = 64, 16


def corpus(folder: Path, captions: int) -> str:
    """Write captions with an image each, 256 pixels wide, all different."""
    import numpy as np
    import webdataset

    path, rng = folder / "captions.tar", np.random.default_rng(0)
    with webdataset.TarWriter(str(path)) as tar:
        for n in range(captions):
            picture = np.kron(rng.integers(0, 256, (16, 16, 3), np.uint8), np.ones((16, 16, 1)))
            sample = {"txt": f"a small picture of thing number {n}", "jpg": picture / 255}
            tar.write({"__key__": f"{n:05d}", **sample})
    return str(path)


def spec_of(source: str) -> "ScanSpec":
    from scanner.spec import ScanSpec
    from scanner.testbed.demo import GUIDANCE, PROBES, STEPS

    return ScanSpec(
        steps=STEPS, guidance_scale=GUIDANCE, probes=PROBES, threshold=1e9, source=source
    )


def scan(shard: str, results: Path, actors: int, source: str) -> dict[str, Any]:
    from scanner.engine import Event, Job, Resources
    from scanner.engine import scan as run
    from scanner.results.folder import Results
    from scanner.testbed import WEIGHTS

    ready: list[float] = []

    def heard(event: Event) -> None:
        if event.kind == "worker":
            ready.append(time.perf_counter())

    job = Job(
        model=str(WEIGHTS / "pipeline"), shards=(shard,), results=str(results),
        spec=spec_of(source), chunk_size=CHUNK, batch_size=BATCH,
    )  # fmt: skip
    start = time.perf_counter()
    summary = run(job, Resources(actors=actors, device="cpu", threads=1), heard)
    end = time.perf_counter()
    told = Results(results).read_run(summary.run)["actors"]
    return {
        "seconds": end - start,
        "seconds_from_ready": end - min(ready),
        "captions": summary.samples,
        "flagged": summary.flagged,
        "denoiser_share": min(actor["denoiser_share"] for actor in told),
        "time_shares": summary.time_shares,
        "evaluations": sum(
            commit.content["evaluations"]["forward"]
            for commit in Results(results).commits(summary.run).values()
        ),
    }


def bare(captions: int, source: str) -> float:
    """Return the seconds of the scan's calls of network and autoencoder, and of nothing else."""
    import torch

    from scanner import models
    from scanner.testbed import WEIGHTS

    torch.set_num_threads(1)
    model, spec = models.load(str(WEIGHTS / "pipeline")), spec_of(source)
    at_image = source == "image"
    schedule = model.single(spec.timestep) if at_image else model.schedule(spec.steps)
    levels = list(zip(schedule.timesteps, schedule.alphas, schedule.sigmas, strict=False))
    picture = torch.randint(0, 256, (1, *model.picture_size, 3), dtype=torch.uint8)
    seconds, left = 0.0, captions
    with torch.no_grad():
        while left:
            for size in chunked(min(left, CHUNK)):
                x = torch.randn(2 * size, *model.latent_shape)
                condition = model.encode(["a picture"] * (2 * size))
                start = time.perf_counter()
                for _ in range(size if at_image else 0):
                    model.compress(picture)
                for level in levels[: 1 if at_image else spec.steps]:
                    model.score(x, level, condition)
                seconds += time.perf_counter() - start
            left -= min(left, CHUNK)
    return seconds


def chunked(samples: int) -> list[int]:
    return [min(BATCH, samples - at) for at in range(0, samples, BATCH)]


def bare_apart(captions: int, source: str) -> float:
    """Return the same, measured in a worker of Ray's: its memory is managed as an actor's is."""
    import ray

    from scanner.engine.cluster import cluster

    with cluster():
        return ray.get(ray.remote(num_cpus=1)(bare).remote(captions, source))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captions", type=int, default=512)
    parser.add_argument("--source", choices=("generated", "image"), default="generated")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    from scanner.engine.cluster import cluster

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = corpus(folder, asked.captions)
        calls = [bare_apart(asked.captions, asked.source)]
        with cluster():
            one = scan(shard, folder / "one", 1, asked.source)
        calls.append(
            bare_apart(asked.captions, asked.source)
        )  # before and after: a machine warms up and slows
        with cluster():
            two = scan(shard, folder / "two", 2, asked.source)
    steps = 1 if asked.source == "image" else spec_of(asked.source).steps
    expected = 2 * steps * asked.captions
    if {one["evaluations"], two["evaluations"]} != {expected}:
        raise SystemExit(f"the scans made other calls than the {expected} that are measured")
    least = sum(calls) / len(calls)
    found = {
        "captions": asked.captions,
        "bare_denoiser_seconds": calls,
        "one_actor": one,
        "two_actors": two,
        "overhead": one["seconds_from_ready"] / least,
        "overhead_with_start": one["seconds"] / least,
        "speedup": one["seconds_from_ready"] / two["seconds_from_ready"],
        "speedup_with_start": one["seconds"] / two["seconds"],
    }
    print(f"{asked.captions} captions, bare denoiser calls {calls[0]:.1f} s and {calls[1]:.1f} s")
    print(f"{'':24}{'from ready':>12}{'with start':>12}{'share in denoiser':>20}")
    for name, row in (("one actor, s", one), ("two actors, s", two)):
        print(
            f"{name:24}{row['seconds_from_ready']:12.1f}{row['seconds']:12.1f}"
            f"{row['denoiser_share']:20.3f}"
        )
    print(f"{'one / bare':24}{found['overhead']:12.3f}{found['overhead_with_start']:12.3f}")
    print(f"{'one / two':24}{found['speedup']:12.2f}{found['speedup_with_start']:12.2f}")
    for name, row in (("one actor", one), ("two actors", two)):
        parts = ", ".join(f"{part} {share:.1%}" for part, share in row["time_shares"].items())
        print(f"{name}: {parts}")
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
