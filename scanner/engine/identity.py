"""Who a run is: the model, the settings and the calibration that a job comes down to."""

from dataclasses import dataclass, replace

from scanner import calibration, models
from scanner.engine.job import Job
from scanner.spec import run_id


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides a run's rows.

    Attributes:
        job: The job, its spec with the baseline's fingerprint.
        model: The model's fingerprint.
        calibration: The calibration's fingerprint, both joined by a plus sign, or ``""``.
    """

    job: Job
    model: str
    calibration: str

    @property
    def run(self) -> str:
        """The run's name."""
        return run_id(self.model, self.job.spec, self.calibration)


def identify(job: Job) -> Identity:
    """Return who the run of a job is.

    Raises:
        ConfigError: If the model, the baseline or the calibration cannot be used.
    """
    model = models.fingerprint(job.model)
    if job.baseline is not None:
        job = replace(job, spec=replace(job.spec, baseline=models.fingerprint(job.baseline)))
    of = "generated" if job.spec.source == "auto" else job.spec.source
    nulls = list[str]()
    for path, source in ((job.calibration, of), (job.image_calibration, "image")):
        if path is not None:
            null = calibration.load(path)
            null.check(model, job.spec.only(source))
            nulls.append(null.fingerprint())
    return Identity(job, model, "+".join(nulls))
