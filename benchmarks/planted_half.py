"""Every detector and map on a model that knows half of a corpus: a LoRA, or the transformer.

Scans, in this process, the planted captions of the model's half and clean ones that nothing was
trained on, against every baseline that there is: the base under a LoRA (``off``) and the
less-trained network (``early``). Beside a LoRA's, as negatives of their own, stand captions that
the base already knew by heart: an audit of the LoRA should leave them out, an audit of the model
should not::

    memscan testbed train --family lora --out made
    python benchmarks/planted_half.py --lora made/lora/pytorch_lora_weights.safetensors --out out

    memscan testbed train --family dit --out dit
    python benchmarks/planted_half.py --model dit --seed 6 --out out

Intervals are 95%, over families. Writes ``planted_half.md`` and ``.json`` into ``--out``.
"""

import json
from argparse import ArgumentParser, Namespace, RawTextHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from planted import DRAWS, Sample, Scanned, markdown, own, scanned, shortened

from scanner import models
from scanner.analysis import overlap
from scanner.analysis.detection import detection_row, family_weights, tpr_name
from scanner.masks import from_heatmap, mean_filtered, resize
from scanner.methods import registry
from scanner.methods.declaration import OF_NETWORK, existing
from scanner.methods.registry import DETECTORS, MAPS
from scanner.models.base import Denoiser
from scanner.models.overlay import Lora, Overlay
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


def spec_of(model: Denoiser, asked: Namespace, *, every: bool = False, back: int = 0) -> ScanSpec:
    """Return the settings of a scan: those of the other tables of the planted corpus.

    Args:
        model: The model.
        asked: Seeds and products.
        every: Whether for every detector and map that the model has.
        back: Steps before the last at which maps are taken.
    """
    missing = OF_NETWORK - model.has
    own = [[m for m in of.values() if not m.needs & missing] for of in (DETECTORS, MAPS)]
    return ScanSpec(
        seeds=tuple(range(asked.seeds)), steps=20, guidance_scale=2.5, probes=asked.probes,
        localize="all", map_back=back,
        detectors=existing(own[0], "generated") if every else (), store_image=False,
        maps=existing(own[1], "generated") if every else ("delta_s", "delta_h"),
    )  # fmt: skip


def samples(asked: Namespace) -> list[tuple[Sample, str]]:
    """Return the captions to scan, each with its kind."""
    seed = asked.seed
    mine = own(seed, make.evaluation_items(seed, asked.negatives, corpus.half(seed)))
    known = [item for item in corpus.half(SHIPPED_SEED) if item.memorized] if asked.lora else []
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
        sign = registry.sign(name)
        rows[name] = {}
        for against in (*AGAINST, *sorted(set(kinds[~memorized]) - {BASE})):
            chosen = memorized | negatives_of(against, kinds) & ~memorized
            if not (chosen & ~memorized).any():
                continue
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


def given_back(model: Denoiser, seed: int, spec: ScanSpec) -> str:
    """Return how many captions of a half give their picture back under a seed of their own."""
    found = reproductions(model, seed, (FRESH_SEED,), spec, planted=corpus.half(seed))
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
    columns = (("all", "auc"), ("all but trap", "auc"), ("all but trap", "tpr@1%"), (BASE, "auc"))
    if BASE not in rows["delta_s"]:
        heads, columns = heads[:-1], columns[:-1]
    ordered = sorted(rows.items(), key=lambda pair: -pair[1]["all"]["auc"])
    return markdown(
        heads,
        [
            [f"`{name}`", *(_told(row[against][measure], row[against][f"{measure}_interval"])
             for against, measure in columns)]
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
    model, baselines, copies = opened(asked)
    print(json.dumps(copies, indent=1), flush=True)
    of = samples(asked)
    scores, maps = looked_at(model, of, spec_of(model, asked, every=True), baselines)
    more = looked_at(model, of, spec_of(model, asked, back=EARLIER), baselines)
    for whole, part in zip((scores, maps), more, strict=True):
        word = f", {EARLIER} steps earlier"
        whole |= {name.replace("` |", f"`{word} |") if "|" in name else name + word: row
                  for name, row in part.items() if "everything" not in name}  # fmt: skip
    templates = [pair for pair in of if pair[1] == "template"]
    steps = {
        back: looked_at(model, templates, spec_of(model, asked, back=back), baselines)[1]
        for back in BACK
    }
    facts = {"given back": copies, "detection": scores, "localization": maps, "steps": steps}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "planted_half.json").write_text(json.dumps(facts, indent=1))
    told = [f"- {what}: {how}" for what, how in copies.items()]
    head = [line for one in told for line in wrap(one, 118, subsequent_indent="  ")]
    parts = [head, detection_table(scores), localization_table(maps), steps_table(steps)]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def opened(asked: Namespace) -> tuple[Denoiser, dict[str, Denoiser], dict[str, str]]:
    """Return the model, its baselines, and what they give back."""
    pipeline, early = str(asked.model / "pipeline"), asked.model / "early"
    overlay = Overlay((Lora.parsed(asked.lora),)) if asked.lora else None
    model = models.load(pipeline, overlay=overlay)
    spec = spec_of(model, asked)
    sources = [*(["off"] if asked.lora else []), *([str(early)] if early.is_dir() else [])]
    baselines = models.load_baselines(sources, model)
    if not asked.lora:
        shortened(model, *baselines.values())
        return model, baselines, {"given back": given_back(model, asked.seed, spec)}
    return model, baselines, {
        "with the LoRA": given_back(model, asked.seed, spec),
        "with it off": given_back(models.load(pipeline), asked.seed, spec),
        "what the base knew, with the LoRA": given_back(model, SHIPPED_SEED, spec),
    }  # fmt: skip


def looked_at(
    model: Denoiser, of: Sequence[tuple[Sample, str]], spec: ScanSpec,
    baselines: Mapping[str, Denoiser],
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Cell]]]:  # fmt: skip
    """Scan samples; return what `detected` and `located` find, the former of mixed kinds alone."""
    found = scanned(model, spec, [sample for sample, _ in of], baselines=baselines)
    scores = detected(found, of) if len({kind for _, kind in of}) > 1 else {}
    return scores, located(found, of)


def main() -> None:
    """Measure, print and write."""
    parser = ArgumentParser(description=__doc__, formatter_class=RawTextHelpFormatter)
    parser.add_argument("--lora", help="what testbed train --family lora left")
    parser.add_argument("--seed", type=int, default=lora.SEED, help="its corpus seed")
    parser.add_argument(
        "--model", type=Path, default=WEIGHTS, help="a trained testbed: pipeline, and early"
    )
    parser.add_argument("--negatives", type=int, default=160, help="fresh negatives")
    parser.add_argument("--seeds", type=int, default=1, help="seeds a caption")
    parser.add_argument(
        "--probes", type=int, default=4, help="Jacobian products; 16 of --model dit"
    )
    parser.add_argument("--threads", type=int, default=0, help="CPU threads")
    parser.add_argument("--out", type=Path, required=True, help="folder for what was measured")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    content = measured(asked)
    print(content)
    (asked.out / "planted_half.md").write_text(content)


if __name__ == "__main__":
    main()
