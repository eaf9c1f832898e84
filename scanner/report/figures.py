"""An evaluation as pictures: ROC, scores by kind, IoU by threshold, and the maps themselves."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from scanner.analysis import overlap
from scanner.analysis.captions_and_maps import captions, maps_of, metrics, regions
from scanner.analysis.evaluation import HARD_KIND, TEMPLATE_POOL
from scanner.analysis.query import connect
from scanner.analysis.truth import Truth, truths
from scanner.errors import ConfigError
from scanner.masks import from_heatmap, from_runs, mean_filtered, resize
from scanner.methods import registry
from scanner.report.canvas import (
    COLOUR_MAP,
    LINES,
    grid_figure,
    log_axis,
    map_scale,
    metric_label,
    save,
    words,
)
from scanner.results.folder import Results
from scanner.text import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

PER_ROW = 3
MARKS = ("-", "--", ":", "-.")
MEMORIZED, CLEAN = "#d1495b", "#7f8a96"


def draw(
    results: Results, run: str, truth_path: str | Path, folder: Path, *,
    shards: Collection[str] | None = None,
) -> list[Path]:  # fmt: skip
    """Draw a run against a truth; return the PNG files.

    ``roc.png`` (log axis, all negatives and without traps), ``scores.png`` (each score by kind),
    ``iou.png`` (against the threshold, on template captions) and ``maps.png`` (every map of a few
    captions); the last two only if the run has maps.

    Args:
        results: The results folder.
        run: The run.
        truth_path: Parquet file as `scanner.analysis.truth.truths` reads it.
        folder: Where they go; made if need be.
        shards: Identities of the shards whose rows count; all by default.

    Raises:
        ConfigError: If the truth cannot be read, or no caption of the run is in it.
        OutputError: If a file cannot be written.
    """
    with closing(connect(results, runs=[run], also=[truth_path], shards=shards)) as con:
        truth = truths(con, truth_path)
        scores = _scores(con, truth)
        figures = {"roc": _roc(scores), "scores": _distributions(scores)}
        if found := _maps(con, truth):
            figures |= {"iou": _thresholds(found), "maps": _gallery(found, _texts(con))}
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        save(figure, paths[-1])
    return paths


def _scores(
    con: duckdb.DuckDBPyConnection, truth: dict[str, Truth]
) -> dict[str, list[tuple[Truth, float]]]:
    """Return each score's captions, turned so that high is suspicious.

    Raises:
        ConfigError: If the truth knows no caption of the run.
    """
    names, table = captions(con)
    known = [row for row in table if row[0] in truth]
    if not known:
        raise ConfigError("no caption of this run is in the truth: is it the truth of this corpus?")
    found = {}
    for column, name in enumerate(names, 2):
        sign = registry.sign(name)
        rows = [(truth[row[0]], row[column]) for row in known]
        pairs = [(t, sign * s) for t, s in rows if s is not None and np.isfinite(s)]
        if pairs:
            found[name] = pairs
    return found


def _roc(scores: dict[str, list[tuple[Truth, float]]]) -> "Figure":
    figure, axes = grid_figure(11, 4.8, 1, 2)
    pools = {"against all negatives": set(), f"without kind {HARD_KIND}": {HARD_KIND}}
    for axis, (title, without) in zip(axes, pools.items(), strict=True):
        least = 1.0
        for number, (name, pairs) in enumerate(scores.items()):
            pool = [(t, s) for t, s in pairs if t.memorized or t.kind not in without]
            fpr, tpr = _curve(pool)
            if len(fpr):
                least = min(least, 1 / max(1, sum(not t.memorized for t, _ in pool)))
                axis.step(
                    np.maximum(fpr, 1e-9), tpr, where="post", label=name, lw=max(1.2, 3.6 - number),
                    color=LINES[number % len(LINES)], ls=MARKS[number // len(LINES) % 4],
                )  # fmt: skip
        axis.axvline(0.01, color="#bbb", lw=0.8, zorder=0)
        axis.set(
            xscale="log", xlim=(least / 2, 1), ylim=(-0.02, 1.02), title=title,
            xlabel="false-positive rate", ylabel="true-positive rate",
        )  # fmt: skip
    axes[-1].legend(fontsize=8, loc="lower right")
    return figure


def _curve(pool: list[tuple[Truth, float]]) -> tuple[Floats, Floats]:
    """Return the ROC's points, ties together; nothing if one side is empty."""
    positive = np.array([t.memorized for t, _ in pool], bool)
    if positive.all() or not positive.any():
        return np.empty(0), np.empty(0)
    values = np.array([s for _, s in pool])
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    hits, alarms = np.cumsum(positive[order])[ends], np.cumsum(~positive[order])[ends]
    return (
        np.concatenate([[0.0], alarms / (~positive).sum()]),
        np.concatenate([[0.0], hits / positive.sum()]),
    )


def _distributions(scores: dict[str, list[tuple[Truth, float]]]) -> "Figure":
    rows = -(-len(scores) // PER_ROW)
    figure, axes = grid_figure(4.4 * PER_ROW, 2.9 * rows, rows, PER_ROW)
    rng = np.random.default_rng(0)
    for axis, (name, pairs) in zip(axes, scores.items(), strict=False):
        kinds = sorted({t.kind for t, _ in pairs}, key=lambda k: (not _is_memorized(pairs, k), k))
        for place, kind in enumerate(kinds):
            values = np.array([s for t, s in pairs if t.kind == kind])
            colour = MEMORIZED if _is_memorized(pairs, kind) else CLEAN
            jitter = place + rng.uniform(-0.28, 0.28, len(values))
            axis.plot(values, jitter, ".", ms=3, color=colour, alpha=0.6)
            axis.plot([np.median(values)] * 2, [place - 0.35, place + 0.35], color="black", lw=1.5)
        axis.set_yticks(range(len(kinds)), kinds, fontsize=8)
        axis.invert_yaxis()
        everything = np.array([s for _, s in pairs])
        if (everything > 0).all():
            log_axis(axis)
        axis.set_title(
            name + (" (negated)" if registry.low_is_suspicious(name) else ""), fontsize=10
        )
        axis.tick_params(axis="x", labelsize=8)
    for axis in axes[len(scores) :]:
        axis.set_axis_off()
    return figure


def _is_memorized(pairs: list[tuple[Truth, float]], kind: str) -> bool:
    return any(t.memorized for t, _ in pairs if t.kind == kind)


Found = dict[tuple[str, str], list[tuple[str, Truth, Floats, Any]]]
"""By metric and baseline: hash, truth, map and stored mask of each caption's maps."""


def _maps(con: duckdb.DuckDBPyConnection, truth: dict[str, Truth]) -> Found:
    found: Found = {}
    for metric, baseline in metrics(con):
        rows = [row for row in maps_of(con, metric, baseline) if row[0] in truth]
        if rows:
            found[metric, baseline] = [
                (sha, truth[sha], from_heatmap(heat, height, width),
                 None if runs is None else from_runs(runs, height, width))
                for sha, height, width, heat, runs in rows
            ]  # fmt: skip
    return found


def _thresholds(found: Found) -> "Figure":
    """IoU by the published protocol, on templates if there are any."""
    figure, axes = grid_figure(11, 4.8, 1, 2)
    templates = any(t.kind == TEMPLATE_POOL for _, t, *_ in next(iter(found.values())))
    pool = f"{TEMPLATE_POOL} captions" if templates else "all captions"
    true: list[NDArray[np.bool_]] = []
    for number, (name, rows) in enumerate(found.items()):
        rows = [row for row in rows if not templates or row[1].kind == TEMPLATE_POOL]
        values, colour = [row[2] for row in rows], LINES[number % len(LINES)]
        true = regions([row[1] for row in rows], values)
        label = metric_label(*name)
        for axis, prepare in zip(axes, (_as_it_is, mean_filtered), strict=True):
            seen = overlap.sweep(values, true, prepare)
            axis.plot(overlap.THRESHOLDS, seen.iou, color=colour, label=label)
        masked = [(resize(m, *t.shape), t) for (*_, m), t in zip(rows, true, strict=True)
                  if m is not None]  # fmt: skip
        if masked:
            deployed = overlap.agreement(*zip(*masked, strict=True)).iou
            axes[0].axhline(deployed, color=colour, lw=0.9, ls=":")
    ones = overlap.agreement([np.ones_like(t) for t in true], true).iou
    axes[0].set_title(f"{pool}; dotted: the stored masks")
    axes[1].set_title("the same, maps smoothed first")
    for axis in axes:
        axis.axhline(ones, color="#999", lw=0.9, ls="--")
        axis.text(0.99, ones, "everything is a copy ", ha="right", va="bottom", fontsize=8)
        axis.set(xlabel="threshold, of the pool's range", ylabel="IoU", ylim=(0, 1), xlim=(0, 1))
    axes[1].legend(fontsize=8)
    return figure


def _as_it_is(values: Floats) -> Floats:
    return values


def _gallery(found: Found, texts: dict[str, str]) -> "Figure":
    """Every map of the first captions by hash, three of a memorized kind, one of another.

    A colour scale is logarithmic and a column's own.
    """
    chosen = list(_chosen(next(iter(found.values()))))
    figure, axes = grid_figure(2.6 + 1.5 * (1 + len(found)), 1.45 * len(chosen) + 0.4, len(chosen),
                           2 + len(found))  # fmt: skip
    grid = np.array(axes, object).reshape(len(chosen), -1)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    for axis in grid[:, 0]:
        axis.set_axis_off()
    for (sha, truth), row in zip(chosen, grid, strict=True):
        text = f"{truth.kind}\n" + "\n".join(wrapped(texts.get(sha, ""), 26, 4))
        row[0].text(0, 0.5, text, va="center", **words(7))
        if truth.mask is not None:
            row[1].imshow(truth.mask, cmap="gray", vmin=0, vmax=1)
    grid[0, 1].set_title("truth", fontsize=8)
    for column, (name, rows) in enumerate(found.items(), 2):
        by_hash = {sha: values for sha, _, values, _ in reversed(rows)}
        everything = np.concatenate([np.maximum(v, 0).ravel() for v in by_hash.values()])
        scale = map_scale(float(np.quantile(everything, 0.999)) or 1.0)
        for (sha, _), row in zip(chosen, grid, strict=True):
            if sha in by_hash:
                row[column].imshow(by_hash[sha], cmap=COLOUR_MAP, norm=scale)
        grid[0, column].set_title(metric_label(*name).replace(" against ", "\n"), fontsize=8)
    return figure


def _chosen(rows: Sequence[tuple[str, Truth, Floats, Any]]) -> Iterator[tuple[str, Truth]]:
    kinds = dict[str, dict[str, Truth]]()
    for sha, truth, *_ in rows:
        kinds.setdefault(truth.kind, {})[sha] = truth
    memorized = {kind for kind, own in kinds.items() if any(t.memorized for t in own.values())}
    for kind in sorted(kinds, key=lambda k: (k not in memorized, k)):
        yield from list(kinds[kind].items())[: 3 if kind in memorized else 1]


def _texts(con: duckdb.DuckDBPyConnection) -> dict[str, str]:
    return dict(con.execute("SELECT caption_sha256, caption FROM captions").fetchall())
