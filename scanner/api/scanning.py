"""A corpus of shards to a results folder, as ``memscan scan`` does it."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from scanner import models
from scanner.analysis.findings import apply_cutoff
from scanner.api.models import Model, Over, baselines_of, load_model
from scanner.api.progress import shown
from scanner.api.settings import ScoreSettings, chooses_probes, spec_of, with_settings
from scanner.engine import driver
from scanner.engine.job import Job, Resources, Summary
from scanner.engine.worker import build_scanner
from scanner.errors import ConfigError
from scanner.models.precision import decided
from scanner.results import stores
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import DEVICES
from scanner.statistics.calibration import Calibration

LOCAL, RAY = "local", "ray"


@with_settings
def scan_shards(
    shards: str | Sequence[str], model: Model | str, out: str | Path, *,
    calibration: Calibration | str | Path | None = None,
    baseline: str | Sequence[str] | None = None,
    where: str = LOCAL, device: str = "auto", dtype: str = "float32",
    actors: int | None = None, offload: str = "none", gpus_per_actor: int = 1,
    fdr: float | None = None,
    evidence: bool = True, source: str = "generated", captions: bool = True,
    batch_size: int | None = None, chunk_size: int | None = 256, limit: int | None = None,
    progress: bool | None = None, **settings: Unpack[ScoreSettings],
) -> Summary:  # fmt: skip
    """Score every caption of a corpus into a results folder; called again, it goes on.

    Rows, commits and run names are those of ``memscan scan``, and either goes on with what the
    other began. What cannot be scored is a reject; what cannot be read is in the summary.

    Args:
        shards: Addresses as the command takes them: paths, globs, brace ranges, ``s3://``, ...
        model: What `scanner.load_model` returned, which a local scan uses as it is; or the name.
        out: Results folder, or ``s3://BUCKET/PREFIX``, ``gs://BUCKET/PREFIX``.
        calibration: From `scanner.calibrate`, or the path of a saved one.
        baseline: As of `scanner.score`.
        where: ``local``, in this process; ``ray``, with an actor per device of this machine; or
            the address of a Ray cluster, which needs a saved calibration that its nodes can read.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``; a loaded model has its own.
        dtype: Precision of the network, or ``auto`` as `scanner.load_model` has it; a loaded model
            has its own.
        actors: Processes with a model, on Ray.
        offload: As `scanner.load_model` has it; a loaded model has its own.
        gpus_per_actor: Over how many GPUs each process spreads its model; a loaded model has its
            own.
        fdr: Flag by this false-discovery rate over the whole run (Benjamini & Hochberg 1995).
        evidence: Whether generated pictures are compared with the shards' images.
        source: ``generated``, or ``image`` to score samples at their own images.
        captions: Whether images are scored under their captions.
        batch_size: Draws at a time; null finds out what memory allows.
        chunk_size: Samples per commit; null takes a minute's worth of a new run's device.
        limit: Scan so many samples at most.
        progress: Whether to show how far it is; null shows it to people.
        **settings: Of `ScoreSettings`; ``localize`` is ``flagged`` unless it is given.

    Returns:
        Counts, and what is missing: `scanner.engine.job.Summary`.

    Raises:
        ConfigError: If something cannot be served as written; nothing has started.
        ResultsError: If results cannot be written.
        ClusterError: If the cluster goes away; call again to resume.

    Example:
        >>> import scanner, tarfile, tempfile, io
        >>> folder = tempfile.mkdtemp()
        >>> with tarfile.open(f"{folder}/a.tar", "w") as tar:
        ...     for n, text in enumerate([b"a red circle", b"a blue star"]):
        ...         member = tarfile.TarInfo(f"{n}.txt")
        ...         member.size = len(text)
        ...         tar.addfile(member, io.BytesIO(text))
        >>> model = scanner.load_model("gaussian")
        >>> done = scanner.scan_shards(f"{folder}/a.tar", model, f"{folder}/results", steps=4)
        >>> done.samples, done.scored, done.is_complete
        (2, 2, True)
    """
    own = model if isinstance(model, Model) else None
    if own is None and where == LOCAL:
        own = load_model(
            str(model), device=device, dtype=dtype, offload=offload, gpus=gpus_per_actor
        )
    name = own.name if own is not None else models.located(str(model))
    over: Over = {"lora": (), "weights": None} if own is None else own.over
    resources = _resources(where, own.device if own is not None else device, actors,
                           gpus_per_actor if own is None else own.gpus)  # fmt: skip
    if own is None:
        dtype, _ = decided(dtype, name, device, joins=resources.joins)
    kept = Calibration.load(calibration) if isinstance(calibration, str | Path) else calibration
    spec = spec_of(
        name, dtype if own is None else own.dtype, {"localize": "flagged", **settings},
        calibration=kept, source=source, captions=captions,
    )  # fmt: skip
    with ExitStack() as stack:
        job = Job(
            model=name, baselines=tuple(map(models.located_baseline, baselines_of(baseline))),
            shards=tuple(reading.expand([shards] if isinstance(shards, str) else list(shards))),
            results=stores.place(str(out)), spec=replace(spec, fdr=fdr),
            calibration=_path_of(calibration, where, stack), images=evidence and source != "image",
            batch_size=batch_size, chunk_size=chunk_size, limit=limit,
            auto_probes=chooses_probes(settings, kept),
            offload=offload if own is None else own.offload, **over,
        )  # fmt: skip
        build = build_scanner
        if own is not None and where == LOCAL:
            build = own.builder(own.with_baselines(job.baselines))
        heard = stack.enter_context(shown("scan", progress))
        summary = driver.scan(job, resources, heard.on_event, build=build)
    if fdr is not None:
        apply_cutoff(Results(job.results), summary.run)
    return summary


def _resources(where: str, device: str, actors: int | None, gpus: int) -> Resources:
    if device not in DEVICES:
        raise ConfigError(f"device must be one of {', '.join(DEVICES)}, got {device!r}")
    address = None if where in (LOCAL, RAY) else where
    return Resources(
        local=where == LOCAL, address=address, device=device, actors=actors, gpus_per_actor=gpus
    )


def _path_of(
    calibration: Calibration | str | Path | None, where: str, stack: ExitStack
) -> str | None:
    """Return where workers find a calibration; one in memory is saved for the scan's duration.

    Raises:
        ConfigError: If it is in memory and other machines are to read it.
    """
    if calibration is None:
        return None
    if not isinstance(calibration, Calibration):
        return str(Path(calibration).absolute())
    if where not in (LOCAL, RAY):
        raise ConfigError(
            f"the nodes of {where} cannot read a calibration in memory: save it where they can, "
            f"and give its path"
        )
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "calibration.json"
    calibration.save(path)
    return str(path)
