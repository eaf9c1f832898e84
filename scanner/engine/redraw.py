"""The job that draws findings of a run again: the run's own model and sampling, fresh seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.methods.declaration import existing
from scanner.methods.registry import DEFAULT_MAPS, MAPS
from scanner.results.run_file import RunFile
from scanner.spec import FPR, TIMESTEP, ScanSpec
from scanner.statistics.calibration import MASK_SHARE

CHUNK_SIZE = 1
"""Findings per commit: each is drawn many times, so one is what a crash can cost."""


def job_of(record: RunFile, model: str | None = None) -> Job:
    """Return the job that a run was scanned by, as far as it decides what is drawn.

    Args:
        record: The run's.
        model: Where the model is now; null takes what the record names.

    Raises:
        ConfigError: If the record is of a version that names too little, or of no settings that
            can be meant.
    """
    config, place = record.config, model or record.config.get("model")
    if not isinstance(place, str) or not place:
        raise ConfigError("the run's record names no model: say where it is with --model")
    try:
        return Job(
            model=place, shards=("none",), results="", spec=_spec(record.spec),
            lora=tuple(map(str, config.get("lora") or ())), weights=config.get("weights"),
            auto_probes=bool(config.get("auto_probes")),
            offload=str(config.get("offload") or "none"), batch_size=config.get("batch_size"),
        )  # fmt: skip
    except TypeError as error:
        raise ConfigError(f"the run's record holds settings of another kind ({error})") from error


def _spec(settings: Mapping[str, Any]) -> ScanSpec:
    """Return a spec of what decides a draw; what is of scores alone is left out."""
    names = {each.name for each in fields(ScanSpec)}
    names -= {"detectors", "flag_by", "baseline", "threshold", "fdr", "screen", "localize"}
    kept: dict[str, Any] = {name: settings[name] for name in names if name in settings}
    for name in ("seeds", "maps"):
        if name in kept:
            kept[name] = tuple(kept[name])
    return ScanSpec(**kept)


def refuse(spec: ScanSpec, first_seed: int) -> None:
    """Refuse to draw again what cannot be.

    Args:
        spec: Of the scan.
        first_seed: Of the draws.

    Raises:
        ConfigError: If the scan is without captions, or has such seeds itself.
    """
    if not spec.captions:
        raise ConfigError("images that were scored without captions have nothing to draw them by")
    if max(spec.seeds) >= first_seed:
        raise ConfigError(
            f"seeds from {first_seed} on are kept for draws, the scan has {max(spec.seeds)}"
        )


def redraw(job: Job, results: str, shard: str, seeds: Sequence[int]) -> Job:
    """Return a job that draws a shard's captions as `reproduce` does, under these seeds.

    Args:
        job: The scan's: its model, LoRAs, steps, guidance, size and precision are kept.
        results: Of the draws.
        shard: The captions, with images where there are any.
        seeds: Of the draws.

    Raises:
        ConfigError: If the settings cannot be meant.
    """
    maps = existing((MAPS[name] for name in job.spec.maps if name in MAPS), "generated")
    spec = replace(
        job.spec, seeds=tuple(seeds), detectors=(), flag_by="delta_s", localize="all",
        maps=maps or DEFAULT_MAPS, mask_share=MASK_SHARE, pixel_threshold=None, threshold=None,
        fpr=FPR, fdr=None, screen=None, source="generated", timestep=TIMESTEP, baseline="",
        store_image=True,
    )  # fmt: skip
    return replace(
        job, spec=spec, results=results, shards=(shard,), images=True, calibration=None,
        image_calibration=None, baselines=(), limit=None, chunk_size=CHUNK_SIZE,
    )  # fmt: skip
