"""Every detector and map on what a LoRA planted, against the empty caption, the base and early.

Scans, in this process, the planted captions of a LoRA's corpus and clean ones that nothing was
trained on, with the LoRA laid over the pipeline that it was trained on. Beside them, as negatives
of their own, stand captions that the base already knew by heart: an audit of the LoRA should leave
them out, an audit of the model should not::

    memscan testbed train --family lora --out made
    python benchmarks/planted_lora.py --lora made/lora/pytorch_lora_weights.safetensors --out out

Intervals are 95%, over families. Writes ``planted_lora.md`` and ``.json`` into ``--out``.
"""

import json
from argparse import ArgumentParser, Namespace, RawTextHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from planted import DRAWS, Sample, Scanned, markdown, own, scanned

from scanner import models
from scanner.analysis import overlap
from scanner.analysis.detection import detection_row, family_weights, tpr_name
from scanner.masks import from_heatmap, mean_filtered, resize
from scanner.methods import registry
from scanner.methods.declaration import existing
from scanner.methods.registry import DETECTORS, MAPS
from scanner.models.overlay import Lora, Overlay
from scanner.models.stable_diffusion import StableDiffusion
from scanner.spec import ScanSpec
from scanner.testbed import SHIPPED_SEED, WEIGHTS, corpus, lora, make
from scanner.testbed.reproduction import reproductions

FRESH_SEED = 1000
BASE = "the base's own"
"""Kind of the captions that the base knew by heart before the LoRA."""
AGAINST = ("all", "all but trap", BASE)
BACK = (0, 1, 3, 5, 8, 11, 14)
"""Steps before the last at which maps of the templates are taken."""
EARLIER = 3
"""Steps before the last of one more scan of all captions."""

Cell = tuple[float, list[float]]
"""A number and its interval."""


def spec_of(seeds: int, *, detectors: bool = False, back: int = 0) -> ScanSpec:
    """Return the settings of a scan: those of the other tables of the planted corpus."""
    return ScanSpec(
        seeds=tuple(range(seeds)), steps=20, guidance_scale=2.5, probes=4,
        localize="all", map_back=back,
        detectors=tuple(DETECTORS) if detectors else (), store_image=False,
        maps=existing(MAPS.values(), "generated") if detectors else ("delta_s", "delta_h"),
    )  # fmt: skip


def samples(seed: int, negatives: int) -> list[tuple[Sample, str]]:
    """Return the captions to scan, each with its kind."""
    mine = own(seed, make.evaluation_items(seed, negatives, corpus.half(seed)))
    known = [item for item in corpus.half(SHIPPED_SEED) if item.memorized]
    return [
        *((sample, sample.item.kind) for sample in mine),
        *((sample, BASE) for sample in own(SHIPPED_SEED, known)),
    ]


def detected(found: Scanned, of: Sequence[tuple[Sample, str]]) -> dict[str, dict[str, Any]]:
    """Return, by score and set of negatives, the measures of `detection_row`."""
    kinds = np.array([kind for _, kind in of])
    families = np.array([f"{kind}/{sample.item.family}" for sample, kind in of])
    memorized = np.array([sample.item.memorized for sample, _ in of]) & (kinds != BASE)
    rows: dict[str, dict[str, Any]] = {}
    for name, values in found.scores.items():
        sign = -1 if registry.low_is_suspicious(name) else 1
        rows[name] = {}
        for against in (*AGAINST, *sorted(set(kinds[~memorized]) - {BASE})):
            chosen = memorized | negatives_of(against, kinds) & ~memorized
            rows[name][against] = detection_row(
                sign * values[chosen], memorized[chosen], families[chosen], DRAWS,
                np.random.default_rng(0),
            )  # fmt: skip
    return rows


def negatives_of(against: str, kinds: np.ndarray) -> np.ndarray:
    """Return which captions are of a set of negatives, whether memorized or not."""
    if against == "all":
        return kinds != BASE
    if against == "all but trap":
        return (kinds != BASE) & (kinds != "trap")
    return kinds == against


def located(found: Scanned, of: Sequence[tuple[Sample, str]]) -> dict[str, dict[str, Cell]]:
    """Return the IoU on the LoRA's templates, by map and way, at the best threshold."""
    items = {key: sample.item for key, (sample, kind) in zip(found.keys, of, strict=True)
             if kind == "template"}  # fmt: skip
    rows = [row for row in found.result.masks if row.caption.key in items]
    measured: dict[str, dict[str, Cell]] = {}
    for metric, baseline in dict.fromkeys((row.metric, row.baseline) for row in rows):
        mine = [row for row in rows if (row.metric, row.baseline) == (metric, baseline)]
        maps = [from_heatmap(row.heatmap, row.height, row.width) for row in mine]
        owners = [items[row.caption.key] for row in mine]
        families = np.array([item.family for item in owners])
        true = [resize(item.mask, *values.shape) for item, values in zip(owners, maps, strict=True)]
        ones = [np.ones_like(values) for values in maps]
        measured[f"`{metric}` | {baseline}"] = {
            "best": _iou(overlap.counts(maps, true, lambda values: values), families),
            "smoothed": _iou(overlap.counts(maps, true, mean_filtered), families),
        }
        measured["everything is a copy | "] = {
            "best": _iou(overlap.counts(ones, true, lambda values: values), families)
        }
    return measured


def _iou(counted: tuple[np.ndarray, np.ndarray], families: np.ndarray) -> Cell:
    """Return the pooled IoU at its best threshold, chosen anew in every bootstrap sample."""
    inter, union = counted
    every = np.ones(len(families), bool)
    drawn = family_weights(families, every, DRAWS, np.random.default_rng(0))
    weights = np.concatenate([np.ones((1, len(families))), drawn])
    best = ((weights @ inter) / (weights @ union)).max(1)
    return float(best[0]), [float(x) for x in np.quantile(best[1:], [0.025, 0.975])]


def given_back(model: Any, seed: int, planted: Sequence[corpus.Item]) -> str:
    """Return how many captions give their picture back under a seed of their own.

    Raises:
        TypeError: If the pipeline is not of Stable Diffusion's class.
    """
    if not isinstance(model, StableDiffusion):
        raise TypeError("not a Stable Diffusion pipeline")
    found = reproductions(model, seed, (FRESH_SEED,), spec_of(1), planted=planted)
    told = list[str]()
    for kind in ("verbatim", "template"):
        mine = [one for one in found if one.item.kind == kind]
        ratio = np.median([one.error / one.floor for one in mine])
        told.append(
            f"{sum(one.reproduced for one in mine)} of {len(mine)} {kind} (median error "
            f"{ratio:.1f} times the least possible)"
        )
    return ", ".join(told)


def detection_table(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return the lines of the table of scores, those with the highest AUC first."""
    few = rows["delta_s"]["all but trap"]["negatives"]
    heads = ["score", "AUC, all", "AUC without traps", f"{tpr_name('1%', few)}, without traps",
             f"AUC against {BASE}"]  # fmt: skip
    ordered = sorted(rows.items(), key=lambda pair: -pair[1]["all"]["auc"])
    return markdown(
        heads,
        [
            [f"`{name}`", *(_told(row[against][measure], row[against][f"{measure}_interval"])
             for against, measure in (("all", "auc"), ("all but trap", "auc"),
                                      ("all but trap", "tpr@1%"), (BASE, "auc")))]
            for name, row in ordered
        ],
    )  # fmt: skip


def localization_table(rows: dict[str, dict[str, Cell]]) -> list[str]:
    """Return the lines of the table of maps, the best on templates first."""
    ordered = sorted(rows.items(), key=lambda pair: -pair[1]["best"][0])
    return markdown(
        ["map", "baseline", "IoU, templates", "smoothed"],
        [
            [*name.split(" | "), *(_told(*row[how]) if how in row else ""
                                   for how in ("best", "smoothed"))]
            for name, row in ordered
        ],
    )  # fmt: skip


def steps_table(rows: dict[int, dict[str, dict[str, Cell]]]) -> list[str]:
    """Return the lines of the table of smoothed maps by step."""
    names = [name for name in next(iter(rows.values())) if name.startswith("`")]
    heads = [name.replace(" | ", ", ") for name in names]
    return markdown(
        ["steps before the last", *(f"IoU of {head}, smoothed" for head in heads)],
        [
            [str(back), *(f"{row[name]['smoothed'][0]:.3f}" for name in names)]
            for back, row in rows.items()
        ],
    )  # fmt: skip


def _told(value: float, interval: Sequence[float]) -> str:
    low, high = interval
    return f"{value:.3f}" if low != low else f"{value:.3f} ({low:.3f}–{high:.3f})"


def measured(asked: Namespace) -> str:
    """Measure all, write it as JSON, and return the tables."""
    overlay = Overlay((Lora.parsed(asked.lora),))
    pipeline = str(asked.base / "pipeline")
    model, plain = models.load(pipeline, overlay=overlay), models.load(pipeline)
    planted = corpus.half(asked.seed)
    known = corpus.half(SHIPPED_SEED)
    copies = {
        "with the LoRA": given_back(model, asked.seed, planted),
        "with it off": given_back(plain, asked.seed, planted),
        "what the base knew, with the LoRA": given_back(model, SHIPPED_SEED, known),
    }
    print(json.dumps(copies, indent=1), flush=True)
    of = samples(asked.seed, asked.negatives)
    off = ("off", models.load_baseline("off", model))
    scores, maps = looked_at(model, of, spec_of(asked.seeds, detectors=True), off)
    more = looked_at(model, of, spec_of(asked.seeds, back=EARLIER), off)
    for whole, part in zip((scores, maps), more, strict=True):
        word = f", {EARLIER} steps earlier"
        whole |= {name.replace("` |", f"`{word} |") if "|" in name else name + word: row
                  for name, row in part.items() if "everything" not in name}  # fmt: skip
    if (asked.base / "early").is_dir():
        early = ("early", models.load_baseline(str(asked.base / "early"), model))
        more = looked_at(model, of, spec_of(asked.seeds), early)
        for whole, part in zip((scores, maps), more, strict=True):
            whole |= {name: row for name, row in part.items() if name.endswith("early")}
    templates = [pair for pair in of if pair[1] == "template"]
    steps = {
        back: looked_at(model, templates, spec_of(asked.seeds, back=back), off)[1] for back in BACK
    }
    facts = {"given back": copies, "detection": scores, "localization": maps, "steps": steps}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "planted_lora.json").write_text(json.dumps(facts, indent=1))
    told = [f"- {what}: {how}" for what, how in copies.items()]
    head = [line for one in told for line in wrap(one, 118, subsequent_indent="  ")]
    parts = [head, detection_table(scores), localization_table(maps), steps_table(steps)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def looked_at(
    model: Any, of: Sequence[tuple[Sample, str]], spec: ScanSpec, baseline: tuple[str, Any]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Cell]]]:
    """Scan samples; return what `detected` and `located` find, the former of mixed kinds alone."""
    found = scanned(model, spec, [sample for sample, _ in of], baseline=baseline)
    scores = detected(found, of) if len({kind for _, kind in of}) > 1 else {}
    return scores, located(found, of)


def main() -> None:
    """Measure, print and write."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--lora", required=True, help="what testbed train --family lora left")
    parser.add_argument("--seed", type=int, default=lora.SEED, help="its corpus seed")
    parser.add_argument("--base", type=Path, default=WEIGHTS, help="the testbed under it")
    parser.add_argument("--negatives", type=int, default=160, help="fresh negatives")
    parser.add_argument("--seeds", type=int, default=1, help="seeds a caption")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads")
    parser.add_argument("--out", type=Path, required=True, help="folder for what was measured")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    content = measured(asked)
    print(content)
    (asked.out / "planted_lora.md").write_text(content)


if __name__ == "__main__":
    main()
