"""From what was found to rows: no network, no device, any thread."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scanner import masks, pictures
from scanner.pictures import Match
from scanner.records import Caption, ChunkResult, MaskRow, Reject, ScoreRow
from scanner.scan.columns import mean_columns
from scanner.scan.contexts import SourceContexts
from scanner.scan.cost import step_of, takes_products
from scanner.scan.flag_score import flag_score
from scanner.scan.state import CaptionVerdict, ChunkState, DrawState
from scanner.spec import ScanSpec

Images = Callable[[Sequence[int]], Iterable[tuple[int, bytes]]]
"""From positions among the captions to the encoded training images that are there."""


class Rows:
    """Makes the rows of a chunk.

    Args:
        spec: What is asked.
        contexts: Settings and calibrations of sampled captions and of images.
        reference: What a row calls the branch that maps are against: ``null``, or the baseline
            where there are no captions.
    """

    def __init__(self, spec: ScanSpec, contexts: SourceContexts, reference: str = "null") -> None:
        self._spec, self._contexts, self._reference = spec, contexts, reference

    def of(self, chunk: ChunkState, images: Images | None = None) -> ChunkResult:
        """Return the rows and rejects of a finished chunk, in the order of its captions.

        Args:
            chunk: Finished.
            images: Where training images come from, one at a time; null takes the captions' own.
        """
        result, maps = ChunkResult(), dict[str, list[list[MaskRow]]]()
        matches = self._matches(chunk, images or _images_of(chunk.captions))
        for position, caption in enumerate(chunk.captions):
            sha = caption.identity
            if (failure := chunk.failures.get(sha)) is not None:
                reject = Reject(caption.shard, caption.key, *failure, caption.sha256)
                result.rejects.append(reject)
                continue
            verdict = chunk.verdicts[sha]
            result.scores += self.scores(caption, verdict)
            if sha not in maps:
                maps[sha] = self._all_maps(caption, verdict)
            for number, rows in enumerate(maps[sha]):
                match = matches.get((position, number))
                result.masks += _rows_for(caption, rows, match)
        return result

    def scores(self, caption: Caption, verdict: CaptionVerdict) -> Iterator[ScoreRow]:
        """Yield a caption's score rows, one per seed."""
        novelty = self._contexts.novelty(caption.text)
        for row in verdict.rows:
            is_own = row.caption is caption and row.novelty == novelty
            yield row if is_own else replace(row, caption=caption, novelty=novelty)
        for item in verdict.draws:
            null = self._contexts.of(item.draw).calibration
            yield ScoreRow(
                caption=caption, seed=item.draw.seed,
                stage="localize" if item.localized else "detect",
                delta_s=item.delta_s, screen=item.screen,
                p_value=verdict.p_value, p_kind=verdict.p_kind,
                seed_p_value=null and null.seed_p_value(
                    item.draw.seed, flag_score(self._spec, item.delta_s, item.extra, null)
                ),
                flagged=verdict.flagged, extra=item.extra | dict(mean_columns(item.maps)),
                increments=item.increments, novelty=novelty,
            )  # fmt: skip

    def _maps_in_order(self, item: DrawState) -> list[tuple[str, str]]:
        """Return the maps that were asked for, the one that carries picture and evidence first.

        That is Δh, or else the first.
        """
        asked = [name for name in item.maps if name[0] in self._spec.maps]
        return sorted(asked, key=lambda name: name != ("delta_h", "null"))

    def _all_maps(self, caption: Caption, verdict: CaptionVerdict) -> list[list[MaskRow]]:
        """Return the map rows of each localized draw, how alike they all are on its first."""
        draws = [draw for draw in verdict.draws if draw.localized]
        made = [list(self._maps(caption, draw)) for draw in draws]
        alike = pictures.tightness([d.picture for d in draws if d.picture is not None])
        for rows in made:
            rows[:1] = [replace(row, tightness=alike) for row in rows[:1]]
        return made

    def _maps(self, caption: Caption, item: DrawState) -> Iterator[MaskRow]:
        for number, (metric, baseline) in enumerate(self._maps_in_order(item)):
            values = item.maps[metric, baseline]
            context = self._contexts.of(item.draw)
            rule = self._rule(metric, baseline, item)
            threshold, mask = (None, None) if rule is None else masks.region(values, *rule)
            errors, doubt = item.errors.get((metric, baseline)), dict[str, Any]()
            if rule and threshold is not None and mask is not None and errors is not None:
                doubtful = masks.doubtful(values, errors, threshold, rule[1])
                doubt = _shares_of(doubtful, mask)
            picture = item.picture if number == 0 and self._spec.store_image else None
            ratios = item.maps.get(("snap_back", "null")) if number == 0 else None
            pin = None if ratios is None or mask is None else masks.stored_extent(ratios, mask)
            yield MaskRow(
                caption=caption, seed=item.draw.seed, metric=metric,
                baseline=self._baseline_label(baseline),
                height=values.shape[0], width=values.shape[1], heatmap=masks.to_heatmap(values),
                sigma=context.sigmas[step_of(metric, context.spec)],
                threshold=threshold,
                mask=None if mask is None else masks.to_runs(mask),
                area=None if mask is None else float(mask.mean()),
                image=None if picture is None else pictures.encode_jpeg(picture),
                pinned=pin and pin.verdict, snap_inside=pin and pin.inside,
                snap_outside=pin and pin.outside,
                products=item.products if takes_products(metric) else None,
                map_error=None if errors is None else masks.relative_error(values, errors),
                **doubt,
            )  # fmt: skip

    def _matches(self, chunk: ChunkState, images: Images) -> dict[tuple[int, int], Match]:
        """Return the evidence by position and number of the localized draw."""
        found = dict[tuple[int, int], Match]()
        localized = {
            position: [draw for draw in verdict.draws if draw.localized]
            for position, caption in enumerate(chunk.captions)
            if caption.image_sha256 is None  # else nothing was generated to compare with it
            and (verdict := chunk.verdicts.get(caption.identity)) is not None
        }
        wanted = [position for position, draws in localized.items() if draws]
        for position, content in images(wanted) if wanted else ():
            for number, draw in enumerate(localized[position]):
                found[position, number] = self._match(content, draw)
        return found

    def _match(self, content: bytes, item: DrawState) -> Match:
        if item.picture is None:
            raise ValueError("a localized draw must have its picture")
        mask: NDArray[np.bool_] | None = None
        order = self._maps_in_order(item)
        if order and (rule := self._rule(*order[0], item)) is not None:
            _, mask = masks.region(item.maps[order[0]], *rule)
        try:
            training = pictures.decoded(content, item.picture.shape[:2])
        except ValueError:
            return Match("unreadable")
        return pictures.match(item.picture, training, mask)

    def _rule(self, metric: str, baseline: str, item: DrawState) -> tuple[float, float] | None:
        """Return floor and share of a map's mask, for `scanner.masks.region`; null without any."""
        own = self._spec.pixel_threshold
        if (share := self._spec.mask_share) is not None:
            return own if own and metric == "delta_h" else 0.0, share
        if own is not None and metric == "delta_h":
            return own, 0
        if (null := self._contexts.of(item.draw).calibration) is None:
            return None
        floor = null.pixel_thresholds.get(f"{metric}/{self._baseline_label(baseline)}")
        if floor is None and null.has_floor:
            return None
        return floor or 0.0, null.mask_share

    def _baseline_label(self, baseline: str) -> str:
        return self._reference if baseline == "null" else baseline


def _shares_of(doubt: NDArray[np.bool_], mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Return the columns of doubtful pixels: shares of the mask and of what is outside, and all."""
    inside, outside = (float(doubt[m].mean()) if m.any() else None for m in (mask, ~mask))
    return {"mask_doubt": inside, "outside_doubt": outside, "doubt": masks.to_runs(doubt)}


def _images_of(captions: Sequence[Caption]) -> Images:
    def images(wanted: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for position in wanted:
            if (content := captions[position].image) is not None:
                yield position, content

    return images


def _rows_for(caption: Caption, rows: list[MaskRow], match: Match | None) -> Iterator[MaskRow]:
    """Yield a draw's map rows as one caption's, the evidence on the first."""
    for number, row in enumerate(rows):
        own = replace(row, caption=caption)
        if number == 0 and match is not None:
            own = replace(
                own, match=match.verdict, match_mse=match.error,
                mse_inside=match.inside, mse_outside=match.outside, tiled_l2=match.tiled,
                match_contrast=match.contrast,
            )  # fmt: skip
        yield own
