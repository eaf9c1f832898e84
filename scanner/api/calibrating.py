"""A calibration from captions that a model was not trained on: scan them, fit, fit a screen.

The command ``memscan calibrate``, the demonstration and `scanner.calibrate` all call
`calibrate_shards`.
"""

import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Unpack

from scanner import files
from scanner.analysis import fit as fitting
from scanner.api.models import Model, baselines_of, texts_of
from scanner.api.progress import shown
from scanner.api.settings import ScoreSettings, chooses_probes, spec_of, with_settings
from scanner.engine import driver
from scanner.engine.job import Job, Resources, Summary
from scanner.errors import ConfigError, IncompleteError
from scanner.methods import registry
from scanner.methods.declaration import existing
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import CONSENSUS, PIXEL_FPR, ScanSpec
from scanner.statistics.calibration import Calibration

ALL_SCREENED = 1e30
"""Drops every caption after the first step: what a screen is fitted on."""

CHUNK_SIZE = 16
"""Captions that are committed together where it is called from Python: each moves the bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationRequest:
    """Settings of a calibration.

    Attributes:
        job: The scan of the null captions, into results of its own; `null_spec` makes its spec.
        pixel_fpr: Share of null pixels that a mask may contain, 0 to 1.
        mask_floor: Of `scanner.spec.MASK_FLOORS`.
        one_per_family: Whether of near-identical null captions one is kept.
        screen_recall: Share of memorized captions that a screen shall keep; null fits none.
        positives: Shards of memorized captions, for the screen.
        scores: Scores beside delta_s whose null scores are kept, so that scans can flag by them.
    """

    job: Job
    pixel_fpr: float = PIXEL_FPR
    mask_floor: str = "pooled"
    one_per_family: bool = False
    screen_recall: float | None = None
    positives: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            ConfigError: If null scores would be of two sources, or a screen lacks something.
        """
        spec = self.job.spec
        if spec.source == "auto":
            raise ConfigError(
                "null scores are of one source: give calibrate --source generated or image"
            )
        if (self.screen_recall is None) != (not self.positives):
            raise ConfigError("a screen needs both --screen-recall and --positives")
        if self.positives and spec.source == "image":
            raise ConfigError(
                "a screen is of sampled captions: calibrate it with --source generated"
            )
        if self.one_per_family and not spec.captions:
            raise ConfigError("--one-per-family is of captions: leave it out beside --no-captions")


def null_spec(spec: ScanSpec, *, with_screen: bool = False) -> ScanSpec:
    """Return what null captions are scanned with for scans of a spec: all of them get maps.

    Args:
        spec: Of the scans to come.
        with_screen: Whether a screen will be fitted.
    """
    # The lengths of the steps cost nothing, and only null trajectories say what is usual.
    detectors = ("increment", *(("wen_first",) if with_screen else ()))
    flag_by = "delta_s" if spec.flag_by == CONSENSUS else spec.flag_by
    return replace(
        spec, flag_by=flag_by, localize="all", store_image=False, threshold=None,
        pixel_threshold=None, mask_share=None, screen=None,
        detectors=(*existing(map(registry.detector, detectors), spec.source), *spec.detectors),
    )  # fmt: skip


def scores_kept(spec: ScanSpec) -> tuple[str, ...]:
    """Return the scores beside delta_s that scans of a spec could flag by."""
    early = [name for name in spec.detectors if name not in spec.late]
    flagging = () if spec.flag_by == "delta_s" else (spec.flag_by,)
    return tuple(dict.fromkeys((*early, *flagging)))


def calibrate_shards(
    request: CalibrationRequest, run: Callable[[Job, str], Summary]
) -> Calibration:
    """Scan null captions, fit a calibration on them, and with positives a screen.

    An interrupted calibration resumes: the scores stay in the job's results. What other shards
    left there does not count.

    Args:
        request: What is asked.
        run: Scans a job under a title, such as ``lambda job, title: scan(job, resources, heard)``.

    Raises:
        ConfigError: If the scores do not make a calibration, or the positives no screen.
        IncompleteError: If a shard could not be read in full.
    """
    results = Results(request.job.results)
    null = _scanned(request.job, "calibrate", run)
    nulls = _identities(request.job)
    fitted = fitting.fit(
        results, null.run, pixel_fpr=request.pixel_fpr, mask_floor=request.mask_floor,
        one_per_family=request.one_per_family,
        shards=nulls, others=request.scores,
    )  # fmt: skip
    if request.screen_recall is None:
        return fitted
    spec = replace(
        request.job.spec, localize="none", detectors=(), flag_by="delta_s", screen=ALL_SCREENED
    )
    job = replace(request.job, shards=request.positives, limit=None, spec=spec)
    known = _scanned(job, "positives", run)
    screen = fitting.screen(
        results, known.run, null.run, request.screen_recall,
        positives=_identities(job), nulls=nulls,
    )  # fmt: skip
    return replace(fitted, screen=screen)


def _identities(job: Job) -> set[str]:
    """Return the identities of a job's shards as they are now."""
    return {reading.stat(url).id for url in job.shards}


def _scanned(job: Job, title: str, run: Callable[[Job, str], Summary]) -> Summary:
    summary = run(job, title)
    if not summary.is_complete:
        raise IncompleteError(summary.missing())
    return summary


@with_settings
def calibrate(
    model: Model, captions: Sequence[str] = (), *, shards: Sequence[str] = (),
    baseline: str | Sequence[str] | None = None, pixel_fpr: float = PIXEL_FPR,
    mask_floor: str = "pooled",
    one_per_family: bool = False, screen_recall: float | None = None, positives: Sequence[str] = (),
    batch_size: int | None = None, work: str | Path | None = None, progress: bool | None = None,
    **settings: Unpack[ScoreSettings],
) -> Calibration:  # fmt: skip
    """Learn from captions that a model was not trained on what its scores look like.

    ``n`` of them give p-values down to ``1 / (n + 1)``, for captions of the kinds that they are
    of. Settings must be those of the scores to come; they are kept in the calibration, and
    `scanner.score` takes them from there.

    Args:
        model: What `scanner.load_model` returned.
        captions: Null captions.
        shards: Addresses of WebDataset shards of null captions instead, as ``memscan calibrate``
            takes them.
        baseline: As of `scanner.score`.
        pixel_fpr: Share of the null maps' pixels that a mask may contain, 0 to 1.
        mask_floor: ``pooled`` takes the floor of masks from all null pixels, by ``pixel_fpr``;
            ``typical`` from a typical null map.
        one_per_family: Whether of near-identical null captions one is kept.
        screen_recall: Share of memorized captions that a screen shall keep; needs positives.
        positives: Memorized captions to fit it on.
        batch_size: Draws at a time; null finds out what memory allows.
        work: Folder in which the scores stay, so that an interrupted calibration resumes; a
            temporary one by default.
        progress: Whether to show how far it is; null shows it to people.
        **settings: Of `ScoreSettings`; all captions get maps, whatever ``localize`` says.

    Returns:
        The calibration; `Calibration.save` and `Calibration.load` keep it in a file.

    Raises:
        ConfigError: If the captions, the settings or the baseline cannot be used.
        IncompleteError: If a shard could not be read in full.

    Example:
        >>> import scanner
        >>> model = scanner.load_model("gaussian")
        >>> null = [f"a caption that is not memorized, number {n}" for n in range(19)]
        >>> calibration = scanner.calibrate(model, null, steps=4, probes=4)
        >>> calibration.captions, calibration.min_p
        (19, 0.05)
        >>> calibration.settings["steps"]
        4
    """
    if bool(captions) == bool(shards):
        raise ConfigError("calibrate takes captions or shards, and one of them")
    asked = spec_of(model.name, model.dtype, settings)
    spec = null_spec(asked, with_screen=bool(positives))
    loaded = model.with_baselines(baselines_of(baseline))
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        found = tuple(reading.expand(list(shards))) if shards else (_shard(captions, place / "a"),)
        job = Job(
            model=model.name, baselines=baselines_of(baseline), shards=found, spec=spec,
            results=str(Path(work).absolute() if work is not None else place / "results"),
            batch_size=batch_size, chunk_size=CHUNK_SIZE, auto_probes=chooses_probes(settings),
            offload=model.offload, **model.over,
        )  # fmt: skip
        request = CalibrationRequest(
            job=job, pixel_fpr=pixel_fpr, mask_floor=mask_floor, one_per_family=one_per_family,
            screen_recall=screen_recall,
            positives=(_shard(positives, place / "b"),) if positives else (),
            scores=scores_kept(asked),
        )  # fmt: skip
        resources = Resources(local=True, device=model.device)

        def run(job: Job, title: str) -> Summary:
            with shown(title, progress) as heard:
                return driver.scan(job, resources, heard.on_event, build=model.builder(loaded))

        return calibrate_shards(request, run)


def _shard(captions: Sequence[str], path: Path) -> str:
    """Write captions as a shard; return its address."""
    target = path.with_suffix(".tar")
    with files.binary(target) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for number, text in enumerate(texts_of(captions)):
            content = text.encode()
            member = tarfile.TarInfo(f"{number:09d}.txt")
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
    return str(target)
