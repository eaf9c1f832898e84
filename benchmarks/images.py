"""The image-directed scan against its own traps.

For planted corpora, every image of which training drew some and not others: which samples does a
scan with ``--source image`` flag at 1%, and how much of their image does it call pinned? Null
samples are the calibration captions beside images that training never drew; none of them is judged.

- ``own``: a verbatim caption's only image, a template caption's from training and from outside, and
  clean captions of every kind beside images from outside: held out, and typical of their caption;
- ``near``: a verbatim caption's image, compressed, made small, cropped, darkened or mirrored;
- ``swapped``: a memorized caption beside a clean caption's image;
- ``trained``: captions of every clean kind beside images that training drew, against those that it
  did not: is it a membership test?
- without captions: the model's empty caption against the less-trained network's.

::

    python benchmarks/images.py --out images                       # the shipped testbed
    python benchmarks/images.py --out images --testbed testbed2 2  # and another
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from planted import (
    TRAINED,
    Bools,
    Cell,
    Number,
    Sample,
    Table,
    Testbed,
    auc,
    drawn,
    encoded,
    options,
    own,
    scanned,
    testbeds,
    together,
)

from scanner import models
from scanner.analysis.fit import pixel_threshold
from scanner.models.base import Denoiser
from scanner.records import MaskRow
from scanner.spec import ScanSpec
from scanner.statistics.calibration import MASK_SHARE, Calibration, SnapBack
from scanner.testbed import corpus, make

FPR, PROBES, TRAINED_OF_A_KIND = 0.01, 4, 56
SIZE = (corpus.SIZE, corpus.SIZE)
NEAR: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half its size": lambda p: p.resize((32, 32), Image.Resampling.BICUBIC),
    "cropped by 6%": lambda p: p.crop((4, 4, 60, 60)).resize(SIZE, Image.Resampling.BICUBIC),
    "darkened by a fifth": lambda p: ImageEnhance.Brightness(p).enhance(0.8),
    "mirrored": ImageOps.mirror,
}
CLEAN = ("name", "art", "scene", "texture", "trap")


def jpeg(picture: Image.Image) -> bytes:
    """Return a picture as a bad JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=50)
    return stream.getvalue()


def near(sample: Sample) -> list[Sample]:
    """Return a sample beside changed copies of its image."""
    picture = Image.open(io.BytesIO(sample.image)).convert("RGB")
    found = [replace(sample, image=jpeg(picture), what="near: JPEG of quality 50")]
    for name, change in NEAR.items():
        image = encoded(np.asarray(change(picture)))
        found.append(replace(sample, image=image, what=f"near: {name}"))
    return found


def trained(seed: int) -> list[Sample]:
    """Return clean captions of every kind, and template ones, beside images that training drew."""
    by_kind: dict[str, dict[str, corpus.Item]] = {}
    for item, _ in corpus.training_set(seed):
        by_kind.setdefault(item.kind, {})[item.caption] = item
    items = [
        item
        for kind in ("template", *CLEAN)
        for item in list(by_kind[kind].values())[:TRAINED_OF_A_KIND]
    ]
    return [Sample(item, drawn(seed, item, TRAINED), "trained") for item in items]


def samples(seed: int, negatives: int) -> list[Sample]:
    """Return everything that is judged."""
    mine = own(seed, make.evaluation_items(seed, negatives))
    others = [sample.image for sample in mine if not sample.item.memorized]
    memorized = [sample for sample in mine if sample.item.memorized]
    swapped = [
        replace(sample, image=others[7 * n % len(others)], what="swapped")
        for n, sample in enumerate(memorized)
    ]
    changed = [
        one for sample in memorized if sample.item.kind == "verbatim" for one in near(sample)
    ]
    return [*mine, *swapped, *changed, *trained(seed)]


def calibrated(denoiser: Denoiser, spec: ScanSpec, nulls: Sequence[Sample]) -> Calibration:
    """Return what null samples say, as ``memscan calibrate`` does without a tail."""
    found = scanned(denoiser, replace(spec, maps=("delta_h",)), nulls)
    maps = ((row.heatmap, row.height, row.width) for row in found.result.masks)
    scores, snaps = (tuple(sorted(found.scores[n].tolist())) for n in ("delta_s", "snap_back"))
    return Calibration(
        "", "", scores, {"delta_h/null": pixel_threshold(maps, 0.01)}, 0.01, len(scores), "",
        mask_share=MASK_SHARE, snap_back=SnapBack(snaps),
    )  # fmt: skip


def group(sample: Sample) -> str:
    """Return the row that a sample belongs to."""
    item, what = sample.item, sample.what
    if what == "own":
        image = "its image" if item.kind == "verbatim" else "held out"
        return f"{item.kind}, {image}"
    return what if what.startswith("near") else f"{item.kind}, {what}"


def pinned_table(
    denoiser: Denoiser, of: Sequence[Sample], nulls: Sequence[Sample], timestep: int
) -> Table:
    """Return for each group what is flagged at 1%, and how much of the images is pinned."""
    spec = ScanSpec(
        source="image", timestep=timestep, localize="all", probes=PROBES, fpr=FPR, maps=("delta_h",)
    )
    null = calibrated(denoiser, spec, nulls)
    found = scanned(denoiser, spec, of, calibration=null)
    flagged = {row.caption.key: bool(row.flagged) for row in found.result.scores}
    maps = {row.caption.key: row for row in found.result.masks}
    alone = found.scores["delta_s"] > null.threshold(FPR)
    head = ["image", "samples", "Δs alone calls", "flagged", "pinned whole", "in a region", "none",
            "bits inside", "bits outside"]  # fmt: skip
    groups, rows = np.array([group(sample) for sample in of]), list[list[Cell]]()
    for name in dict.fromkeys(groups.tolist()):
        inside = groups == name
        keys = [key for key, is_in in zip(found.keys, inside, strict=True) if is_in]
        own_maps = [maps[key] for key in keys]
        shares = [
            Number([float(alone[inside].mean())]),
            Number([float(np.mean([flagged[key] for key in keys]))]),
            *(
                Number([float(np.mean([row.pinned == verdict for row in own_maps]))])
                for verdict in ("whole", "region", "none")
            ),
        ]
        rows.append([f"T = {timestep}: {name}", str(len(keys)), *shares, *bits(own_maps)])
    return Table(head, rows)


def bits(rows: Sequence[MaskRow]) -> list[Cell]:
    """Return the median snap-back inside and outside the masks."""
    found: list[Cell] = []
    for name in ("snap_inside", "snap_outside"):
        values = [value for row in rows if (value := getattr(row, name)) is not None]
        found.append(Number([float(np.median(values))]) if values else "")
    return found


def member_table(denoiser: Denoiser, of: Sequence[Sample], timesteps: Sequence[int]) -> Table:
    """Return the AUC of images that training drew against others of the same kind."""
    few = [s for s in of if s.what in ("own", "trained") and s.item.kind != "verbatim"]
    kinds, what = (np.array(x) for x in zip(*((s.item.kind, s.what) for s in few), strict=True))
    rows: list[list[Cell]] = [[kind] for kind in ("template", *CLEAN)]
    for timestep in timesteps:
        spec = ScanSpec(source="image", timestep=timestep, localize="none")
        scores = scanned(denoiser, spec, few).scores
        for row in rows:
            of_kind = kinds == row[0]
            pair: tuple[Bools, Bools] = (of_kind & (what == "trained"), of_kind & (what == "own"))
            row += [auc(scores[name], *pair, few) for name in ("delta_s", "snap_back")]
    head = [f"T = {t}, {name}" for t in timesteps for name in ("Δs", "snap-back")]
    return Table(["trained against held-out", *head], rows)


def uncaptioned_table(
    denoiser: Denoiser, testbed: Testbed, of: Sequence[Sample], timesteps: Sequence[int]
) -> Table:
    """Return the AUC of memorized images against clean ones, all without captions."""
    early = models.load_baseline(str(testbed.folder / "early"), denoiser)
    few = [sample for sample in of if sample.what == "own"]
    kinds = np.array([sample.item.kind for sample in few])
    clean = np.isin(kinds, CLEAN)
    rows = list[list[Cell]]()
    for timestep in timesteps:
        spec = ScanSpec(
            source="image", captions=False, timestep=timestep, localize="all", probes=PROBES,
            detectors=("flipd",), maps=("delta_s",),
        )  # fmt: skip
        scores = scanned(denoiser, spec, few, baselines={"early": early}).scores
        for kind in ("verbatim", "template"):
            row: list[Cell] = [f"T = {timestep}, {kind}"]
            for name, sign in (("delta_s", 1), ("snap_back", 1), ("flipd", -1)):
                signed = sign * scores[name]
                row += [auc(signed, kinds == kind, no, few) for no in (clean, kinds == "art")]
            rows.append(row)
    names = ("Δs", "snap-back", "FLIPD")
    return Table(["image", *(f"{n}, against {a}" for n in names for a in ("all", "art"))], rows)


def measured(
    testbed: Testbed, negatives: int, timesteps: Sequence[int], said: Callable[[str], None]
) -> dict[str, Table]:
    """Return the tables of one testbed."""
    denoiser = models.load(str(testbed.folder / "pipeline"))
    of = samples(testbed.seed, negatives)
    nulls = own(testbed.seed, make.calibration_items(testbed.seed, negatives))
    pinned = list[Table]()
    for timestep in timesteps:
        pinned.append(pinned_table(denoiser, of, nulls, timestep))
        said(f"seed {testbed.seed}: T = {timestep}")
    found = {
        "pinned": Table(pinned[0].head, [row for table in pinned for row in table.rows]),
        "members": member_table(denoiser, of, timesteps),
        "without captions": uncaptioned_table(denoiser, testbed, of, timesteps),
    }
    said(f"seed {testbed.seed}: done")
    return found


def main() -> None:
    """Parse, measure, print, write."""
    parser = options(__doc__)
    parser.add_argument("--timesteps", type=int, nargs="+", default=[61, 401])
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    found = [
        measured(testbed, asked.negatives, asked.timesteps, lambda s: print(s, flush=True))
        for testbed in testbeds(asked.testbed)
    ]
    tables = {name: together([one[name] for one in found]) for name in found[0]}
    for table in tables.values():
        print("", table.markdown(), sep="\n")
    content = {name: table.as_json() for name, table in tables.items()}
    (asked.out / "images.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
