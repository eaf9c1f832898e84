"""Captions and images in memory to scores, maps and masks: no shards, no results folder."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
from numpy.typing import NDArray

from scanner import pictures
from scanner.api.models import Model, baselines_of, load_model, texts_of
from scanner.api.progress import Meter, shown
from scanner.api.score import Score, scores_of
from scanner.api.settings import ScoreSettings, chooses_probes, spec_of, with_settings
from scanner.engine.identity import refuse, resolved
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.models import baselines_fingerprint
from scanner.records import Caption, ChunkResult, Reject
from scanner.statistics.calibration import Calibration

if TYPE_CHECKING:
    from PIL.Image import Image

    from scanner.scan.scanner import Scanner

    ImageLike = str | Path | bytes | NDArray[np.uint8] | Image


@with_settings
def score(
    model: Model, captions: Sequence[str] | str, *, calibration: Calibration | None = None,
    baseline: str | Sequence[str] | None = None, batch_size: int | None = None,
    progress: bool | None = None, **settings: Unpack[ScoreSettings],
) -> list[Score]:  # fmt: skip
    """Score captions: is each memorized, and which region is the copy.

    Noise is keyed by caption and seed, so a caption's numbers are those that ``memscan scan``
    gives it, up to the rounding of another batch.

    Args:
        model: What `scanner.load_model` returned.
        captions: Texts, or one.
        calibration: Of this model and these settings, from `scanner.calibrate`: gives p-values,
            flags and masks, and the settings that are left out here.
        baseline: Folder or hub id of a less-trained network, ``off`` (the model without its LoRAs
            and weights) or ``prompt:TEXT``, beside the unconditional branch; a list for several.
        batch_size: Draws at a time; null finds out what memory allows.
        progress: Whether to show how far it is; null shows it to people.
        **settings: Of `ScoreSettings`.

    Returns:
        One result per caption, in their order.

    Raises:
        ConfigError: If a caption is blank, or settings, calibration and model do not fit.
        DeviceError: If not even one caption fits into memory.

    Example:
        >>> import scanner
        >>> model = scanner.load_model("gaussian")
        >>> first, second = scanner.score(model, ["a red circle", "a blue star"], steps=4, seeds=2)
        >>> first.scores["delta_s"].shape, first.maps["delta_h"].values.shape
        ((2,), (2, 8, 8))
        >>> first.images.shape, first.flagged
        ((2, 32, 32, 3), None)
        >>> scanner.score(model, "a red circle", steps=4, seeds=2)[0].delta_s == first.delta_s
        True
    """
    spec = spec_of(model.name, model.dtype, settings, calibration=calibration)
    found = [Caption("", str(n), text) for n, text in enumerate(texts_of(captions))]
    job = Job(
        model=model.name, shards=("",), results="", spec=spec, baselines=baselines_of(baseline),
        auto_probes=chooses_probes(settings, calibration), batch_size=batch_size, **model.over,
    )  # fmt: skip
    return _scored(model, job, found, calibration, progress)


@with_settings
def score_images(
    model: Model, images: "Sequence[ImageLike]", captions: Sequence[str] | None = None, *,
    calibration: Calibration | None = None, baseline: str | Sequence[str] | None = None,
    batch_size: int | None = None, progress: bool | None = None,
    **settings: Unpack[ScoreSettings],
) -> list[Score]:  # fmt: skip
    """Score images at themselves: does the model store this image, whole or a region of it.

    Two evaluations of the network and no sampling. Images are fitted to the model's size.

    Args:
        model: What `scanner.load_model` returned.
        images: Paths, encoded JPEG, PNG or WebP bytes, PIL images, or ``(height, width, 3)`` uint8
            arrays.
        captions: The caption of each; null scores them without captions, against ``baseline``.
        calibration: As of `scanner.score`, of images.
        baseline: As of `scanner.score`; needed without captions.
        batch_size: Draws at a time; null finds out what memory allows.
        progress: Whether to show how far it is; null shows it to people.
        **settings: Of `ScoreSettings`; those of the sampling have no effect.

    Returns:
        One result per image, in their order; one that cannot be read is ``rejected``.

    Raises:
        ConfigError: If there are not as many captions as images, or settings, calibration and
            model do not fit.

    Example:
        >>> import numpy as np, scanner
        >>> model = scanner.load_model("gaussian")
        >>> grey = np.full((32, 32, 3), 128, np.uint8)
        >>> (found,) = scanner.score_images(model, [grey], ["a red circle"])
        >>> sorted(found.scores), found.maps["snap_back"].values.shape
        (['curvature', 'delta_h', 'delta_s', 'snap_back'], (1, 8, 8))
    """
    if captions is None and baseline is None:
        raise ConfigError(
            "images without captions are compared with a less-trained network: give baseline"
        )
    texts = [""] * len(images) if captions is None else texts_of(captions)
    if len(texts) != len(images):
        raise ConfigError(f"every image needs a caption, got {len(images)} and {len(texts)}")
    spec = spec_of(
        model.name,
        model.dtype,
        settings,
        calibration=calibration,
        source="image",
        captions=captions is not None,
    )
    found = [
        Caption("", str(n), text, image=_encoded(image))
        for n, (image, text) in enumerate(zip(images, texts, strict=True))
    ]
    job = Job(
        model=model.name, shards=("",), results="", spec=spec, baselines=baselines_of(baseline),
        auto_probes=chooses_probes(settings, calibration), batch_size=batch_size, **model.over,
    )  # fmt: skip
    return _scored(model, job, found, calibration, progress)


def _scored(
    model: Model, job: Job, captions: Sequence[Caption], calibration: Calibration | None,
    progress: bool | None,
) -> list[Score]:  # fmt: skip
    """Score samples whose keys are their numbers, a batch at a time."""
    from scanner.scan.scanner import Scanner  # takes torch

    refuse(job)
    own = baselines_fingerprint(model.name, job.baselines, model.base_fingerprint)
    spec = replace(resolved(job).spec, baseline=own)
    if calibration is not None:
        calibration.check(model.fingerprint, spec)
    denoiser, baselines = model.with_baselines(job.baselines)
    scanner = Scanner(
        denoiser, replace(spec, store_image=False), baselines=baselines, calibration=calibration,
        batch_size=job.batch_size,
        precise=lambda: load_model(
            model.name, device=model.device, offload=model.offload, gpus=model.gpus, **model.over
        ).with_baselines(job.baselines),
    )  # fmt: skip
    found = dict[int, Score]()
    with shown("score", progress) as meter:
        for position, each in _results(scanner, captions, meter):
            found[position] = each
    return [found[position] for position in range(len(captions))]


def _results(
    scanner: "Scanner", captions: Sequence[Caption], meter: Meter
) -> Iterator[tuple[int, Score]]:
    """Yield position and result of every sample, as they get done."""
    from scanner.scan.batcher import LocalizationBatcher

    batcher, done, start = LocalizationBatcher(scanner), 0, 0
    while start < len(captions):
        number = max(1, scanner.sizes["detect"].size // len(scanner.spec.seeds))
        some = captions[start : start + number]
        start += len(some)
        taken = [scanner.prepare(caption) for caption in some]
        refused = ChunkResult(rejects=[item for item in taken if isinstance(item, Reject)])
        yield from scores_of(captions, refused, None, scanner.spec.seeds)
        finished = batcher.add(
            scanner.detect([item for item in taken if isinstance(item, Caption)])
        )
        finished += batcher.flush() if start >= len(captions) else []
        for work, error in finished:
            if error is not None:
                raise error
            own = list(scores_of(captions, scanner.rows(work), work, scanner.spec.seeds))
            done += len(own)
            meter(done, len(captions))
            yield from own


def _encoded(image: "ImageLike") -> bytes:
    """Return an image as encoded bytes.

    Raises:
        ConfigError: If it is no image, or its file cannot be read.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        try:
            return Path(image).read_bytes()
        except OSError as error:
            raise ConfigError(f"image {image} cannot be read: {error.strerror}") from error
    return pictures.encode_png(image)
