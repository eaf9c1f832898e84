"""The identity of a run: fingerprints of its model, settings and calibration."""

from dataclasses import dataclass, replace

from scanner import models
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.methods import registry
from scanner.models.levels import SchedulerConfig
from scanner.models.limits import limits, refuse_baseline
from scanner.scan.flag_score import refuse_uncalibrated
from scanner.spec import ROOM_FOR_ROUNDS, run_id
from scanner.statistics import calibration


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """Everything that decides a run's rows.

    Attributes:
        job: The job, its spec with the baselines' fingerprints; models of the hub at a commit.
        model: The model's fingerprint.
        calibration: The calibration's fingerprint, both joined by a plus sign, or ``""``.
        null_captions: How many null captions there are whose words are known; null if none are.
    """

    job: Job
    model: str
    calibration: str
    null_captions: int | None = None

    @property
    def run(self) -> str:
        """The run's name."""
        return run_id(self.model, self.job.spec, self.calibration)

    def names(self) -> dict[str, str]:
        """Return the fingerprints that the run's name is made of."""
        settings = self.job.spec.fingerprint()
        return {"model": self.model, "settings": settings, "calibration": self.calibration}


def identify(job: Job) -> RunIdentity:
    """Return who the run of a job is.

    Raises:
        ConfigError: If the model, the baseline or the calibration cannot be used.
    """
    refuse(job)
    job = resolved(job)
    job = _at_commits(job)
    base = models.fingerprint(job.model)
    model = job.overlay.fingerprint(base)
    baseline = models.baselines_fingerprint(job.model, job.baselines, base)
    job = replace(job, spec=replace(job.spec, baseline=baseline))
    of = "generated" if job.spec.source == "auto" else job.spec.source
    refuse_uncalibrated(job.spec, is_calibrated=job.calibration is not None)
    nulls, words = list[str](), None
    for path, source in ((job.calibration, of), (job.image_calibration, "image")):
        if path is not None:
            null = calibration.load(path)
            null.check(model, job.spec.only(source))
            null.of_score(job.spec.flag_by)
            if job.spec.p_values == "kind":
                null.check_kinds(job.spec.flag_by)
            nulls.append(null.fingerprint(job.spec.p_values))
            words = words or (null.words and null.words.captions)
    return RunIdentity(job, model, "+".join(nulls), words)


def _at_commits(job: Job) -> Job:
    """Return a job whose models and LoRAs of the hub name commits, which all nodes then take.

    Raises:
        ConfigError: If one cannot be had.
    """
    baselines = tuple(map(models.pinned, job.baselines))
    lora = tuple(str(each.pinned()) for each in job.overlay.loras)
    return replace(job, model=models.pinned(job.model), baselines=baselines, lora=lora)


def resolved(job: Job) -> Job:
    """Return a job whose spec says how many products it takes.

    Raises:
        ConfigError: If the model is not there.
    """
    if not job.auto_probes:
        return job
    number = limits(job.model).probes(job.spec.probe_design)
    number *= ROOM_FOR_ROUNDS if job.spec.stops_early else 1
    return replace(job, spec=replace(job.spec, probes=number), auto_probes=False)


def refuse(job: Job) -> None:
    """Refuse what the model cannot serve, as far as its folder says it; no weights are read.

    Raises:
        ConfigError: If it cannot.
    """
    spec, model = job.spec, limits(job.model)
    if spec.source != "image" and spec.steps > model.timesteps:
        raise ConfigError(
            f"steps must be at most {model.timesteps}, the training timesteps of {job.model}, got "
            f"{spec.steps}"
        )
    if spec.source != "generated" and spec.timestep >= model.timesteps:
        raise ConfigError(
            f"timestep must be from 0 to {model.timesteps - 1}, the training timesteps of "
            f"{job.model}, got {spec.timestep}"
        )
    if not model.takes_captions:
        _refuse_captions(job)
    if model.scheduler is not None:
        _refuse_levels(job, model.scheduler)
    if model.is_flow:
        _refuse_flow(job)
    registry.refuse_network(spec.computed, model.has, job.model)
    models.refuse_overlay(job.model, job.overlay)
    for baseline in job.baselines:
        refuse_baseline(job.model, baseline)


def _refuse_captions(job: Job) -> None:
    """Refuse to score under captions what has none.

    Raises:
        ConfigError: If that is asked for.
    """
    if job.spec.captions:
        raise ConfigError(
            f"{job.model} takes no captions, so there is no branch without one to compare with: "
            f"score images against an earlier checkpoint of it (--source image --no-captions "
            f"--baseline EARLY)"
        )


def _refuse_flow(job: Job) -> None:
    """Refuse maps of a flow where it has no signal, and images without noise.

    Raises:
        ConfigError: If they are asked for.
    """
    if job.spec.source != "image":
        job.spec.only("generated").refuse_blind_start(flow=True)
    if job.spec.source != "generated" and job.spec.timestep == 0:
        raise ConfigError(
            f"timestep 0 of {job.model}, a flow, has no noise: take one from 1 on (its noise is "
            f"timestep / 1000)"
        )


def _refuse_levels(job: Job, scheduler: SchedulerConfig) -> None:
    """Refuse what a model cannot serve because of its noise levels.

    Raises:
        ConfigError: If so many steps leave its timesteps, or a level has no signal where a score
            or a map is taken.
    """
    spec = job.spec
    if spec.source != "image":
        first = scheduler.sampled(spec.steps)[0]
        if not scheduler.has_signal(first):
            if scheduler.prediction == "epsilon":
                raise ConfigError(
                    f"{job.model} predicts noise and its sampler starts at timestep {first}, which "
                    f"holds no signal (rescale_betas_zero_snr): a predicted noise says nothing of "
                    f"the picture there; correct timestep_spacing or prediction_type in its "
                    f"scheduler_config.json"
                )
            spec.only("generated").refuse_blind_start()
    if spec.source != "generated" and not scheduler.has_signal(spec.timestep):
        raise ConfigError(
            f"timestep {spec.timestep} of {job.model} holds no signal (rescale_betas_zero_snr): "
            f"an image noised to it is noise; take a lower timestep"
        )
