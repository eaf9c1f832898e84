"""What is kept of scored captions for their copies."""

from scanner.records import Caption, ScoreRow
from scanner.scan.state import CaptionVerdict
from scanner.scan.verdict_cache import ROW_BYTES, VerdictCache


def test_what_is_kept_for_copies_has_its_limit():
    kept = VerdictCache(3 * ROW_BYTES)
    for name in "abcd":
        kept.add(
            name,
            CaptionVerdict(
                None,
                None,
                None,
                rows=[ScoreRow(Caption("s", name, ""), 0, stage="detect", delta_s=1.0)],
            ),
        )
        kept.get("a")
    assert [name for name in "abcd" if kept.get(name) is not None] == ["a", "c", "d"]
