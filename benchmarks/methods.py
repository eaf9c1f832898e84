"""Every method on the planted corpus, for several corpus seeds, beside what was published.

For each testbed: calibrate on its null captions, scan its evaluation captions with every detector
and map under the networks trained on that corpus, and evaluate against the known truth. No
evaluation caption but the planted ones was trained on, none calibrated anything, and noise is keyed
by caption and seed, so none is shared. A scan that was interrupted resumes::

    python benchmarks/methods.py --out methods --docs docs/evaluation.md
    python benchmarks/methods.py --out methods --testbed testbed2 2 --testbed testbed3 3

A testbed is what ``memscan testbed train --out DIR --seed SEED`` leaves; the shipped one (corpus
seed 1) is always there.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from textwrap import wrap
from typing import Any

from planted import Testbed, markdown, options, testbeds, written

from scanner import models
from scanner.analysis.detection import RATES, tpr_name
from scanner.analysis.evaluate import evaluate
from scanner.analysis.evaluation import Evaluation
from scanner.api.calibrating import CalibrationRequest, calibrate_shards
from scanner.engine import Event, Job, Resources, Summary, scan
from scanner.engine.cluster import cluster
from scanner.methods.declaration import existing
from scanner.methods.registry import DETECTORS, MAPS
from scanner.models.stable_diffusion import StableDiffusion
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import ScanSpec
from scanner.testbed import make
from scanner.testbed.reproduction import reproductions

SPEC = ScanSpec(
    seeds=(0, 1), steps=20, guidance_scale=2.5, probes=4, localize="all",
    detectors=tuple(DETECTORS),
    maps=existing(MAPS.values(), "generated"),
)  # fmt: skip
FRESH_SEED = 1000
MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")

PUBLISHED = {
    "delta_s": (".997 / .982", ".997 / .968", "Kim & Lee, map mean"),
    "delta_h": (".997 / .982", ".995 / .950", "Kim & Lee, map mean"),
    "delta_s_early": (".998 / .988", ".993 / .968", "Kim & Lee, earlier checkpoint"),
    "delta_h_early": (".989 / .900", ".996 / .963", "Kim & Lee, earlier checkpoint"),
    "curvature": (".861 / .082", ".775 / .000", "Kim & Lee"),
    "wen_first": (".976 / .896", ".948 / .739", "Jeon et al., 1 seed"),
    "wen_5": (".991 / .932", ".969 / .885", "Jeon et al., 1 seed"),
    "wen": (".983 / .948", ".982 / .904", "Jeon et al., 1 seed"),
    "sharpness": (".987 / .908", ".959 / .740", "Jeon et al., 1 seed"),
    "anisotropy": (".994 / .935", ".953 / .791", "Asthana & Belagiannis, 1 seed"),
    "metric2": (".976 / .828", "", "its code's own, SD 1.5"),
    "dsm": (".975 / .858", "", "its code's own, SD 1.5"),
    "increment_z": (".9995", ".9962", "Huang et al."),
    "bright_ending": (".986 / .950", ".983 / .908", "Jeon et al., 1 seed"),
    "spread": (".987", "", "Zhang et al."),
    "tightness": (".908 / .088", ".792 / .114", "Jeon et al., tiled l2, 4 seeds"),
}
"""AUC / TPR at 1% FPR on SD 1.4 and on SD 2.x (2.1 of Kim & Lee and Huang et al., else 2.0)."""

LOCATED = {
    ("delta_h", "null"): (".899 / .953", ".943 / .866"),
    ("delta_s", "null"): (".830 / .918", ".785 / .794"),
    ("delta_h", "early"): (".921 / .867", ".947 / .828"),
    ("delta_s", "early"): (".863 / .654", ".920 / .844"),
    ("curvature", "none"): (".586 / .522", ".649 / .500"),
    ("bright_ending", "none"): (".751 / .564", ".933 / .956"),
    ("all ones", ""): (".560 / .522", ".649 / .325"),
}
"""IoU on templates / on all, SD 1.4 and SD 2.1, all of Kim & Lee; at the best threshold."""


def measured(
    testbed: Testbed, out: Path, negatives: int, said: Callable[[str], None]
) -> Evaluation:
    """Calibrate, scan and evaluate one testbed; what is there already is not done again."""
    for name in ("pipeline", "early"):
        if not (testbed.folder / name).is_dir():
            raise SystemExit(f"{testbed.folder} has no {name}: is it a finished testbed train?")
    corpus = out / "corpus"
    for name, items in (
        ("evaluation", make.evaluation_items(testbed.seed, negatives)),
        ("calibration", make.calibration_items(testbed.seed, negatives)),
    ):
        if not (corpus / f"{name}-truth.parquet").exists():
            make.write_shards(testbed.seed, items, corpus, name)
            make.write_truth(items, corpus / f"{name}-truth.parquet")
    calibration = out / "calibration.json"
    null = CalibrationRequest(job=_job(testbed, out, "calibration", None))
    calibrate_shards(null, lambda job, title: _scan(testbed, job, title, said)).save(calibration)
    job = _job(testbed, out, "evaluation", calibration)
    run = _scan(testbed, job, "evaluation", said).run
    found = evaluate(Results(out / "evaluation"), run, corpus / "evaluation-truth.parquet")
    (out / "evaluation.json").write_text(found.as_json())
    return found


def _job(testbed: Testbed, out: Path, name: str, calibration: Path | None) -> Job:
    return Job(
        model=str((testbed.folder / "pipeline").absolute()),
        baselines=(str((testbed.folder / "early").absolute()),),
        shards=tuple(reading.expand([str(out / "corpus" / f"{name}-*.tar")])),
        results=str((out / name).absolute()), spec=SPEC, images=True, chunk_size=16,
        calibration=calibration and str(calibration.absolute()),
    )  # fmt: skip


def _scan(testbed: Testbed, job: Job, title: str, said: Callable[[str], None]) -> Summary:
    def heard(event: Event) -> None:
        if event.kind == "chunk":
            said(f"seed {testbed.seed}, {title}: {event.samples_done} of {event.samples_total}")

    return scan(job, Resources(device="auto"), heard)


def given_back(testbed: Testbed) -> str:
    """Return how many planted captions give their picture back under a seed of their own."""
    model = models.load(str(testbed.folder / "pipeline"))
    if not isinstance(model, StableDiffusion):
        raise SystemExit(f"{testbed.folder}/pipeline is not a Stable Diffusion pipeline")
    found = reproductions(model, testbed.seed, (FRESH_SEED,), SPEC)
    shares = list[str]()
    for kind in ("verbatim", "template"):
        own = [one.reproduced for one in found if one.item.kind == kind]
        shares.append(f"{sum(own)} of {len(own)} {kind}")
    return f"corpus {testbed.seed}: {', '.join(shares)}"


def detection_table(found: Sequence[Evaluation]) -> list[str]:
    """Return the lines of the table of scores, those with the highest AUC first."""
    names = list(dict.fromkeys(r["score"] for f in found for r in f.detection))
    names = [name for name in names if " alone" not in name]
    easy = min(
        (r["negatives"] for f in found for r in f.detection if r["against"] == "all but trap"),
        default=0,
    )
    named = [f"{tpr_name(rate, easy)}, without traps" for rate in RATES]
    heads = ["score", "AUC, all", "AUC without traps", *named, "SD 1.4", "SD 2.x", "published by"]
    rows: list[tuple[float, list[str]]] = []
    for name in names:
        cells = {
            (against, measure): [_one(f.detection, score=name, against=against)[measure]
                                 for f in found]
            for against, measure in (
                ("all", "auc"), ("all but trap", "auc"), ("all but trap", "tpr@1%"),
                ("all but trap", "tpr@0.1%"),
            )
        }  # fmt: skip
        published = PUBLISHED.get(name, ("", "", ""))
        rows.append(
            (-fmean(cells["all", "auc"]), [f"`{name}`", *map(_range, cells.values()), *published])
        )
    return markdown(heads, [row for _, row in sorted(rows, key=lambda row: row[0])])


def localization_table(found: Sequence[Evaluation]) -> list[str]:
    """Return the lines of the table of maps, the best on templates first."""
    kinds = list(dict.fromkeys((r["metric"], r["baseline"]) for f in found for r in f.localization))
    heads = ["map", "baseline", "IoU, templates", "smoothed", "calibrated mask", "IoU, all maps",
             "SD 1.4, templates / all", "SD 2.1, templates / all"]  # fmt: skip
    wanted = (("template", "oracle"), ("template", "smoothed"), ("template", "deployed"),
              ("all", "oracle"))  # fmt: skip
    rows: list[tuple[float, list[str]]] = []
    for metric, baseline in kinds:
        cells = [
            [_one(f.localization, metric=metric, baseline=baseline, pool=pool, method=method)["iou"]
             for f in found]
            for pool, method in wanted
        ]  # fmt: skip
        published = LOCATED.get((metric, baseline), ("", ""))
        rows.append((-fmean(cells[0]), [f"`{metric}`", baseline, *map(_range, cells), *published]))
    ones = [
        [_one(f.localization, pool=pool, method="all ones")["iou"] for f in found]
        for pool in ("template", "all")
    ]
    least = ["everything is a copy", "", _range(ones[0]), "", "", _range(ones[1])]
    body = [row for _, row in sorted(rows, key=lambda row: row[0])]
    return markdown(heads, [*body, [*least, *LOCATED["all ones", ""]]])


def deployed_lines(found: Sequence[Evaluation]) -> list[str]:
    """Return what the stored flags do, per set of negatives."""
    heads = ["flags at 1% of `delta_s`, against", "true-positive rate", "false-positive rate"]
    rows = [
        [against, *(_range([_one(f.deployed, against=against)[m] for f in found])
                    for m in ("tpr", "fpr"))]
        for against in dict.fromkeys(r["against"] for f in found for r in f.deployed)
    ]  # fmt: skip
    return markdown(heads, rows)


def kinds_table(found: Sequence[Evaluation]) -> list[str]:
    """Return the AUC of each score against each kind of negatives: where a method fails."""
    kinds = list(
        dict.fromkeys(
            r["against"] for f in found for r in f.detection if r["against"].startswith("kind ")
        )
    )
    names = [n for n in dict.fromkeys(r["score"] for f in found for r in f.detection)
             if " alone" not in n]  # fmt: skip
    rows = [
        [f"`{name}`", *(_range([_one(f.detection, score=name, against=kind)["auc"] for f in found])
                        for kind in kinds)]
        for name in names
    ]  # fmt: skip
    return markdown(["AUC against", *(kind.removeprefix("kind ") for kind in kinds)], rows)


def _one(rows: Iterable[dict[str, Any]], **wanted: str) -> dict[str, Any]:
    """Return the first row that has these cells."""
    found = (row for row in rows if all(row[name] == value for name, value in wanted.items()))
    nothing: dict[str, Any] = dict.fromkeys(
        ("auc", "tpr@1%", "tpr@0.1%", "iou", "tpr", "fpr"), float("nan")
    )
    return next(found, nothing)


def _range(values: Sequence[float]) -> str:
    """Return the mean over corpora, and the least and the largest beside it if there are some."""
    known = [value for value in values if value == value]
    if not known:
        return ""
    middle, least, largest = (f"{f(known):.3f}" for f in (fmean, min, max))
    return middle if least == largest else f"{middle} ({least}–{largest})"


def text(beds: Sequence[Testbed], found: Sequence[Evaluation], copies: Sequence[str] = ()) -> str:
    """Return all tables as Markdown, with what they are of."""
    seeds = ", ".join(str(testbed.seed) for testbed in beds)
    plural = "s" if len(beds) > 1 else ""
    counted = found[0].counts["captions_evaluated"]
    memorized = int(_one(found[0].detection, against="all")["positives"])
    spread = "; a mean over them, the least and the largest in brackets" if plural else ""
    about = (
        f"Corpus seed{plural} {seeds}{spread}. {counted} captions each, {memorized} of them "
        f"memorized, {len(SPEC.seeds)} seeds a caption, {SPEC.steps} steps, guidance "
        f"{SPEC.guidance_scale}, {SPEC.probes} probes."
    )
    head = wrap(about, 120)
    if copies:
        given = f"Given back, within twice the autoencoder's own error: {'; '.join(copies)}."
        head += wrap(given, 120)
    parts = [head, detection_table(found), localization_table(found), kinds_table(found),
             deployed_lines(found)]  # fmt: skip
    return "\n\n".join("\n".join(part) for part in parts)


def main() -> None:
    """Measure, print, and write the page if there is one."""
    parser = options(__doc__)
    parser.add_argument("--docs", type=Path, help="A page that gets the tables between its marks.")
    asked = parser.parse_args()
    beds = testbeds(asked.testbed)
    found: list[Evaluation] = []
    with cluster():
        for testbed in beds:
            own = asked.out.absolute() / f"seed-{testbed.seed}"
            found.append(
                measured(testbed, own, asked.negatives, lambda line: print(line, flush=True))
            )
    content = text(beds, found, [given_back(testbed) for testbed in beds])
    print(content)
    facts = [json.loads(one.as_json()) for one in found]
    (asked.out / "methods.json").write_text(json.dumps(facts, indent=1))
    if asked.docs:
        written(asked.docs, MARKS, content)


if __name__ == "__main__":
    main()
