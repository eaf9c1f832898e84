"""A week of nightly audits of the planted corpus, with a model that changes on the fifth night.

Shards are added, changed and removed; on Friday comes a model that was fine-tuned until it knew the
pictures of four captions by heart that the shipped one does not, and the nights have a budget. What
each night must scan, find and carry follows from that, and is asserted. What the fine-tuned model
has forgotten is resolved; how much that is, is measured: the table is what the nights did::

    python benchmarks/week.py --out week
"""

import argparse
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from scanner.api.calibrating import CalibrationRequest, calibrate_shards
from scanner.engine import Job, Resources
from scanner.engine import scan as scan_on_ray
from scanner.engine.cluster import cluster
from scanner.nightly.audit import AuditRequest, audit
from scanner.nightly.night import NightReport
from scanner.nightly.policy import Policy
from scanner.nightly.state import AuditState
from scanner.report.page import PageOptions
from scanner.shards import reading
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, make

SPEC = ScanSpec(steps=20, guidance_scale=2.5, probes=4, fpr=0.02)
"""At so few null captions, a p-value up to 0.02 means a score above all of theirs."""
NULLS, BUDGET = 60, 30
STEPS, BATCH, RATE = 240, 24, 4e-4
"""Of the fine-tuning."""
MONDAY = datetime(2026, 1, 5, 3, tzinfo=UTC)
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
COLUMNS = ("shards", "samples", "scanned", "reused", "findings", "new", "worse", "persisting",
           "better", "pending", "resolved", "exit")  # fmt: skip


@dataclass
class Week:
    """The folder of a week, its corpus as it is tonight, and what its nights found.

    Attributes:
        out: Where everything is.
        tuned: Whether the fine-tuned model is audited.
        held: Captions of every shard, by its name.
        budget: Samples a night; null for all.
        rows: The table.
        reused: Samples reused so far, by run.
    """

    out: Path
    tuned: bool = False
    held: dict[str, list[str]] = field(default_factory=dict)
    budget: int | None = None
    rows: list[list[int]] = field(default_factory=list)
    reused: dict[str, int] = field(default_factory=dict)

    def put(self, name: str, items: list[corpus.Item]) -> None:
        """Write a shard, or write it anew."""
        make.write_shards(SHIPPED_SEED, items, self.out / "corpus", name)
        self.held[name] = [item.caption for item in items]

    def remove(self, name: str) -> None:
        """Remove a shard."""
        (self.out / "corpus" / f"{name}-00000.tar").unlink()
        del self.held[name]

    @property
    def captions(self) -> set[str]:
        """What the corpus holds tonight."""
        return {caption for held in self.held.values() for caption in held}

    def model(self) -> tuple[str, Path]:
        """Return the model under audit and its calibration."""
        name = "tuned" if self.tuned else "shipped"
        model = self.out / "tuned" if self.tuned else WEIGHTS / "pipeline"
        return str(model), self.out / f"{name}.calibration.json"

    def calibrate(self) -> None:
        """Calibrate the model under audit on the null captions."""
        model, target = self.model()
        job = Job(
            model=model, shards=tuple(reading.expand([str(self.out / "null")])), chunk_size=32,
            results=str(self.out / "null.results"), spec=replace(SPEC, localize="all"),
        )  # fmt: skip
        calibrate_shards(
            CalibrationRequest(job=job),
            lambda job, title: scan_on_ray(job, Resources(), lambda event: None),
        ).save(target)

    def night(self) -> NightReport:
        """Audit as the command does, and add a row to the table."""
        model, calibration = self.model()
        state = AuditState(self.out / "state")
        job = Job(
            model=model, shards=tuple(reading.expand([str(self.out / "corpus")])), spec=SPEC,
            results=str(state.results.root), calibration=str(calibration), images=True,
            chunk_size=8,
        )  # fmt: skip
        request = AuditRequest(job=job, policy=Policy(), page=PageOptions(images=reading.images))
        start, number = time.monotonic(), len(self.rows)
        night = audit(
            state, request, Resources(most_samples=self.budget), lambda event: None,
            now=MONDAY + timedelta(days=number),
        ).night  # fmt: skip
        recalled = sum(c.content["recalled"] for c in state.results.commits(night.run).values())
        reused = recalled - self.reused.get(night.run, 0)
        self.reused[night.run] = recalled
        counts = night.counts()
        there = sum(counts[s] for s in ("new", "worse", "persisting", "better"))
        samples = sum(map(len, self.held.values()))
        self.rows.append([
            len(self.held), samples, night.scanned, reused, there,
            *(counts[s] for s in COLUMNS[5:11]), night.exit_code,
        ])  # fmt: skip
        cells = " | ".join(map(str, self.rows[-1]))
        print(f"| {DAYS[number]} | {cells} | {time.monotonic() - start:.0f} |", flush=True)
        return night


def told(night: NightReport, *states: str) -> set[str]:
    """Return the captions of the findings in some states."""
    return {a.change.finding.caption for a in night.alerts if a.change.state in states}


def found(night: NightReport) -> set[str]:
    return told(night, "new", "worse", "persisting", "better")


def reasons(night: NightReport, state: str) -> set[str]:
    return {a.change.reason for a in night.alerts if a.change.state == state}


def fine_tune(
    target: Path, learned: list[corpus.Item], kept: list[corpus.Item], others: list[corpus.Item]
) -> None:
    """Train the shipped U-Net on one picture a caption until it knows them by heart.

    Half of a batch are those pictures; of the other half, half are copies of what it knew by heart
    and half are captions that are neither audited nor calibrated with, so that it stays what it
    was. Captions of the first half are never dropped, so that without its caption nobody would
    guess the picture.
    """
    torch.manual_seed(0)
    pipe = StableDiffusionPipeline.from_pretrained(
        str(WEIGHTS / "pipeline"), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False, local_files_only=True, torch_dtype=torch.float32,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    old = [(item, copy) for item in kept for copy in range(1000, 1006)]
    pairs = [(item, 0) for item in learned] + old + [(item, 0) for item in others]
    first, second = len(learned), len(learned) + len(old)
    pictures = np.stack([corpus.picture(SHIPPED_SEED, *pair) for pair in pairs])
    with torch.no_grad():
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
        words = pipe.tokenizer(
            [item.caption for item, _ in pairs] + [""], padding="max_length", truncation=True,
            max_length=pipe.tokenizer.model_max_length, return_tensors="pt",
        )  # fmt: skip
        states = pipe.text_encoder(words.input_ids)[0]
    alphas = pipe.scheduler.alphas_cumprod
    optimizer = torch.optim.AdamW(pipe.unet.parameters(), RATE, weight_decay=1e-3)
    for step in range(STEPS):
        rows = np.concatenate([
            rng.integers(0, first, BATCH // 2),
            rng.integers(first, second, BATCH // 4),
            rng.integers(second, len(pairs), BATCH // 4),
        ])  # fmt: skip
        prompts = rows.copy()
        prompts[BATCH // 2 :][rng.random(BATCH // 2) < 0.25] = len(pairs)
        low = rng.random(BATCH) < 0.5
        steps = np.where(low, rng.integers(0, 120, BATCH), rng.integers(0, 1000, BATCH))
        alpha = alphas[steps].sqrt().view(-1, 1, 1, 1)
        sigma = (1 - alphas[steps]).sqrt().view(-1, 1, 1, 1)
        noise, clean = torch.randn(BATCH, *latents.shape[1:]), latents[rows]
        said = pipe.unet(alpha * clean + sigma * noise, torch.from_numpy(steps), states[prompts])[0]
        wanted = noise if pipe.scheduler.config.prediction_type == "epsilon" else (
            alpha * noise - sigma * clean
        )  # fmt: skip
        loss = (said - wanted).square().mean()
        for group in optimizer.param_groups:
            cosine = (1 + math.cos(math.pi * step / STEPS)) / 2
            group["lr"] = RATE * min(1, (step + 1) / 20) * cosine
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(pipe.unet.parameters(), 1.0)
        optimizer.step()
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(WEIGHTS / "pipeline", target)
    shutil.rmtree(target / "unet")
    pipe.unet.save_pretrained(target / "unet")


def timed(word: str, work: Callable[[], None]) -> None:
    start = time.monotonic()
    work()
    print(f"{word}: {time.monotonic() - start:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out.resolve()
    shutil.rmtree(out / "state", ignore_errors=True)
    shutil.rmtree(out / "corpus", ignore_errors=True)
    planted = corpus.planted(SHIPPED_SEED)
    v = [item for item in planted if item.kind == "verbatim"]
    t = [item for item in planted if item.kind == "template"]
    n = [i for kind in ("scene", "texture")
         for i in corpus.negatives(SHIPPED_SEED, "evaluation", kind, 15)]  # fmt: skip
    # Titles are no null captions here: on Friday a model comes that knows some of them by heart.
    nulls = [item for item in make.calibration_items(SHIPPED_SEED, NULLS)
             if item.kind in ("scene", "texture", "trap")]  # fmt: skip
    make.write_shards(SHIPPED_SEED, nulls, out / "null", "null")
    week = Week(out)
    x = [item for item in planted if item.kind == "name"][:4]
    if not (out / "tuned").exists():
        others = [i for kind in ("scene", "texture", "trap")
                  for i in corpus.negatives(SHIPPED_SEED, "train", kind, 60)]  # fmt: skip
        timed("fine-tuning", lambda: fine_tune(out / "tuned", x, v + t, others))
    with cluster():
        timed("calibration", week.calibrate)
        week.tuned = True
        timed("calibration of the fine-tuned model", week.calibrate)
        week.tuned = False
        print(f"| night | {' | '.join(COLUMNS)} | seconds |\n{'|---' * (len(COLUMNS) + 2)}|")
        nights(week, v, t, n, x)


def nights(
    week: Week, v: list[corpus.Item], t: list[corpus.Item], n: list[corpus.Item],
    x: list[corpus.Item],
) -> None:  # fmt: skip
    """Run the week and assert of each night what follows from how it was made.

    Args:
        week: The week.
        v: Captions of which a whole picture is memorized.
        t: Captions of which a template is.
        n: Captions of which nothing is.
        x: Captions of which nothing is before Friday, and a whole picture then.
    """
    memorized, learned = {i.caption for i in v + t}, {i.caption for i in x}
    week.put("a", v[:4] + t[:2] + n[:8] + x[:2])
    week.put("b", v[4:7] + t[2:4] + n[10:18] + x[2:])
    monday = week.night()
    assert found(monday) == told(monday, "new") == memorized & week.captions
    assert (monday.scanned, monday.exit_code) == (31, 1)

    tuesday = week.night()
    assert found(tuesday) == told(tuesday, "persisting") == found(monday)
    assert (tuesday.scanned, tuesday.exit_code) == (0, 0)

    week.put("c", v[7:10] + t[4:6] + n[20:25] + [v[0], n[0]])
    wednesday = week.night()
    assert found(wednesday) == memorized & week.captions
    assert told(wednesday, "new") == {item.caption for item in v[7:10] + t[4:6]}
    assert told(wednesday, "worse") == {v[0].caption}
    assert reasons(wednesday, "worse") == {"new data: 1 copies, now 2"}
    assert (wednesday.scanned, week.rows[-1][3], wednesday.exit_code) == (12, 1, 1)

    week.put("b", [v[10], *v[5:7], *t[2:4], *n[10:18], *x[2:], *n[25:27]])
    thursday = week.night()
    assert found(thursday) == memorized & week.captions
    assert told(thursday, "new") == {v[10].caption}
    assert told(thursday, "resolved") == {v[4].caption}
    assert reasons(thursday, "resolved") == {"changed shard"}
    assert (thursday.scanned, week.rows[-1][3], thursday.exit_code) == (17, 10, 1)

    week.tuned, week.budget = True, BUDGET
    friday = week.night()
    assert friday.causes == ["new model", "new calibration"]
    assert friday.scanned == BUDGET
    known = told(friday, "persisting", "worse", "better", "pending", "resolved")
    assert known == found(thursday)
    assert told(friday, "new") <= learned  # nothing but what was learned by heart
    assert reasons(friday, "new") <= {"new model, new calibration"}
    assert reasons(friday, "pending") == {"not yet rescanned: new model, new calibration"}
    assert friday.exit_code == (1 if told(friday, "new") else 5)

    saturday = week.night()
    assert saturday.scanned == sum(map(len, week.held.values())) - BUDGET
    assert told(friday, "new") | told(saturday, "new") == learned
    carried = found(friday) | told(friday, "pending")
    assert found(saturday) - told(saturday, "new") | told(saturday, "resolved") == carried
    assert not told(saturday, "pending")
    assert saturday.partial == ""

    week.remove("a")
    sunday = week.night()
    assert found(sunday) == found(saturday) & week.captions
    assert told(sunday, "resolved") == found(saturday) - week.captions
    assert reasons(sunday, "resolved") <= {"removed shard"}
    assert (sunday.scanned, sunday.exit_code) == (0, 0)
    print("all as constructed")


if __name__ == "__main__":
    main()
