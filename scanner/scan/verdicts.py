"""Verdicts on captions: p-value and flag from scores, from a screen, or from earlier rows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from scanner.methods import registry
from scanner.records import Caption, ScoreRow
from scanner.scan.columns import increment_column
from scanner.scan.contexts import SourceContexts
from scanner.scan.flag_score import consensus_column, flag_score
from scanner.scan.state import CaptionVerdict, DrawState
from scanner.spec import CONSENSUS, ScanSpec
from scanner.statistics.calibration import Calibration


class Verdicts:
    """Judges captions by a spec's threshold and calibrations.

    Args:
        spec: What is asked.
        contexts: Calibrations of sampled captions and of images.
    """

    def __init__(self, spec: ScanSpec, contexts: SourceContexts) -> None:
        self._spec, self._contexts = spec, contexts

    def of_draws(self, items: list[DrawState]) -> CaptionVerdict:
        """Return the verdict on a caption from its detected draws."""
        null = self._contexts.of(items[0].draw).calibration
        scores = [flag_score(self._spec, item.delta_s, item.extra, null) for item in items]
        snaps = [item.extra["snap_back"] for item in items if item.at_image]
        judged = self._p_value_and_flag(items[0].draw.text, scores, null, snaps)
        return CaptionVerdict(*judged, draws=items)

    def of_screened(self, caption: Caption, norms: Mapping[int, float]) -> CaptionVerdict:
        """Return the verdict on a caption that the screen drops: its p-value is 1.

        Args:
            caption: The caption.
            norms: Norm of the first step by seed.
        """
        calibrated = self._contexts.sampled_calibration is not None
        p_value, p_kind = (1.0, "screen") if calibrated else (None, None)
        flagged = False if calibrated or self._spec.threshold is not None else None
        asked = "wen_first" in self._spec.detectors
        rows = [
            ScoreRow(
                caption=caption, seed=seed, stage="screen", screen=norm, delta_s=None,
                p_value=p_value, p_kind=p_kind, flagged=flagged,
                extra={"wen_first": norm} if asked else {},
            )
            for seed, norm in norms.items()
        ]  # fmt: skip
        return CaptionVerdict(p_value, p_kind, flagged, rows=rows)

    def of_earlier_rows(self, rows: Sequence[ScoreRow]) -> CaptionVerdict | None:
        """Return this scan's verdict on a caption from rows that an earlier scan wrote.

        Args:
            rows: One per seed, of a scan with the same settings of scores; may be empty.

        Returns:
            Null if the rows lack what this scan needs, or the caption is to be localized: then
            it must be sampled.
        """
        if not rows:
            return None
        by_seed = {row.seed: row for row in rows}
        own = [by_seed[seed] for seed in self._spec.seeds if seed in by_seed]
        if self._spec.screen is not None:
            norms = {row.seed: row.screen for row in own if row.screen is not None}
            if len(norms) < len(self._spec.seeds):
                return None
            if float(np.mean(list(norms.values()))) < self._spec.screen:
                return self.of_screened(own[0].caption, norms)
        if not self._have_all_scores(own):
            return None
        null = self._contexts.sampled_calibration
        scores = [
            flag_score(self._spec, row.delta_s, row.extra, null)
            for row in own
            if row.delta_s is not None
        ]
        verdict = CaptionVerdict(*self._p_value_and_flag(own[0].caption.text, scores, null))
        if self.is_to_localize(verdict):
            return None
        verdict.rows = [self._judged_again(row, verdict) for row in own]
        return verdict

    def is_to_localize(self, verdict: CaptionVerdict) -> bool:
        """Return whether the spec asks for maps of a caption with this verdict."""
        return self._spec.localize == "all" or (
            self._spec.localize == "flagged" and bool(verdict.flagged)
        )

    def _have_all_scores(self, rows: Sequence[ScoreRow]) -> bool:
        """Return whether there is a row per seed, each with every score of detection."""
        columns = self._detection_columns()
        if sum(row.delta_s is not None for row in rows) < len(self._spec.seeds):
            return False
        if any(columns - set(row.extra) for row in rows):
            return False
        return "increment" not in columns or all(row.increments is not None for row in rows)

    def _judged_again(self, row: ScoreRow, verdict: CaptionVerdict) -> ScoreRow:
        """Return an earlier row with this scan's verdict and no other columns than its own."""
        columns, null = self._detection_columns(), self._contexts.sampled_calibration
        return replace(
            row, stage="detect", screen=row.screen if self._spec.screen is not None else None,
            p_value=verdict.p_value, p_kind=verdict.p_kind, flagged=verdict.flagged,
            seed_p_value=None if null is None or row.delta_s is None
            else null.seed_p_value(row.seed, flag_score(self._spec, row.delta_s, row.extra, null)),
            extra={n: row.extra[n] for n in sorted(columns)}
            | increment_column(self._spec, null, row.increments)
            | consensus_column(self._spec, row.delta_s or 0.0, row.extra, null),
            increments=row.increments if "increment" in columns else None,
        )  # fmt: skip

    def _detection_columns(self) -> set[str]:
        """Return the scores beside delta_s that every scored caption has, localized or not."""
        early = set(self._spec.detectors) - set(self._spec.late)
        return early | ({self._spec.flag_by} - {"delta_s", CONSENSUS})

    def _p_value_and_flag(
        self, text: str, scores: Sequence[float], null: Calibration | None,
        snaps: Sequence[float] = (),
    ) -> tuple[float | None, str | None, bool | None]:  # fmt: skip
        """Return p-value, its kind, and flag of a caption from its seeds' scores and snap-backs.

        Under a false-discovery rate the flag says whether the caption can still pass: no cut-off
        exceeds the rate.
        """
        score = float(np.mean(scores)) if len(scores) > 1 else float(scores[0])
        above = None
        if self._spec.threshold is not None:
            above = score > registry.sign(self._spec.flag_by) * self._spec.threshold
        if null is None:
            return None, None, above
        snap_back = float(np.mean(snaps)) if snaps else None
        p_value, kind = null.p_value(score, snap_back), "conformal"
        if self._spec.p_values == "kind":
            p_value, kind = null.kind_p_value(self._spec.flag_by, score, text, snap_back)
        flagged = p_value <= self._spec.candidate_rate if above is None else above
        return p_value, kind, flagged
