"""The views that `scanner.analysis.query` makes of the tables, as SQL."""

from scanner.analysis.levels import EXTENT_OF, LEVEL_OF, LEVEL_RANK
from scanner.pictures import MATCHES

MATCH_RANK = f"""
CREATE MACRO match_rank(match) AS
CASE match {" ".join(f"WHEN '{name}' THEN {i}" for i, name in enumerate(MATCHES))}
ELSE {len(MATCHES)} END
"""
"""0 for a verbatim copy, 1 for a template's, 2 where a score alone speaks."""
IDENTITY = """
CREATE MACRO identity_of(caption, image) AS
CASE WHEN image IS NULL THEN caption ELSE sha256(caption || ' ' || image) END
"""
"""`scanner.records.identity_of` in SQL."""
CAPTIONS = """
CREATE VIEW captions AS
SELECT run, caption_sha256, max(caption) AS caption,
       sum(occurrences)::BIGINT AS occurrences, max(seeds) AS seeds,
       max(worst) AS worst, max(delta_s) AS delta_s, min(p_value) AS p_value,
       arg_min(p_kind, p_value) AS p_kind, min(least_seed_p_value) AS least_seed_p_value,
       bool_or(flagged) AS flagged, min(novelty) AS novelty, min(sample)[1] AS shard,
       min(sample)[2] AS key
FROM (SELECT run, caption_sha256, image_sha256, max(caption) AS caption,
             count(DISTINCT (shard, key)) AS occurrences, count(DISTINCT seed) AS seeds,
             max(delta_s) AS worst, avg(delta_s) AS delta_s, min(p_value) AS p_value,
             arg_min(p_kind, p_value) AS p_kind, min(seed_p_value) AS least_seed_p_value,
             bool_or(flagged) AS flagged, min(novelty) AS novelty, min((shard, key)) AS sample
      FROM scores GROUP BY run, caption_sha256, image_sha256)
GROUP BY run, caption_sha256
"""
FINDINGS = """
CREATE VIEW findings AS
WITH flagged AS (
    SELECT run, caption_sha256, image_sha256, max(caption) AS caption,
           count(DISTINCT (shard, key)) AS occurrences, max(delta_s) AS worst,
           avg(delta_s) AS delta_s, min(p_value) AS p_value, arg_min(p_kind, p_value) AS p_kind,
           avg(snap_back) AS snap_back, min(novelty) AS novelty, min((shard, key)) AS sample
    FROM scores GROUP BY run, caption_sha256, image_sha256 HAVING bool_or(flagged)
), counted AS (
    SELECT run, caption_sha256, image_sha256, count(*) AS maps
    FROM masks GROUP BY run, caption_sha256, image_sha256
), strongest AS (
    SELECT * FROM masks QUALIFY row_number() OVER (
        PARTITION BY run, caption_sha256, image_sha256
        ORDER BY match_rank(match), match IS NULL, match_mse NULLS LAST, metric <> 'delta_h',
                 baseline <> 'null', shard, key, seed, metric, baseline
    ) = 1
), nearest AS (
    SELECT * FROM retrieved WHERE rank = 1 QUALIFY row_number() OVER (
        PARTITION BY run, caption_sha256 ORDER BY match_rank(match), mse, seed
    ) = 1
)
SELECT f.run, f.caption, f.caption_sha256, f.image_sha256, f.occurrences, f.worst, f.delta_s,
       f.p_value, f.p_kind, f.snap_back, f.novelty, coalesce(m.shard, f.sample[1]) AS shard,
       coalesce(m.key, f.sample[2]) AS key, coalesce(c.maps, 0) AS maps,
       m.* EXCLUDE (run, shard, key, caption_sha256, image_sha256), n.own AS nearest_own,
       n.match AS nearest_match, n.mse AS nearest_mse, n.tiled_l2 AS nearest_tiled_l2,
       n.shard AS nearest_shard, n.key AS nearest_key,
       level_of(m.match, m.pinned, d.given_back, d.plain, d.rate_low, d.rate_high, d.agreeing,
                d.agreeing_low) AS level, extent_of(m.area) AS extent,
       d.drawn, d.compared, d.given_back, d.plain, d.rate_low, d.rate_high, d.agreeing
FROM flagged AS f
LEFT JOIN counted AS c ON c.run = f.run AND c.caption_sha256 = f.caption_sha256
  AND c.image_sha256 IS NOT DISTINCT FROM f.image_sha256
LEFT JOIN strongest AS m ON m.run = f.run AND m.caption_sha256 = f.caption_sha256
  AND m.image_sha256 IS NOT DISTINCT FROM f.image_sha256
LEFT JOIN nearest AS n
  ON n.run = f.run AND n.caption_sha256 = f.caption_sha256 AND f.image_sha256 IS NULL
LEFT JOIN confirmed AS d ON d.run = f.run AND d.caption_sha256 = f.caption_sha256
  AND d.image_sha256 IS NOT DISTINCT FROM f.image_sha256
ORDER BY level_rank(level), match_rank(m.match), f.p_value NULLS LAST,
         f.delta_s DESC NULLS LAST, f.run, f.caption_sha256, f.image_sha256
"""
FINDING_MAPS = """
CREATE VIEW finding_maps AS
SELECT f.run, f.caption, f.caption_sha256, f.image_sha256, f.occurrences, f.worst, f.delta_s,
       f.p_value, f.p_kind, m.* EXCLUDE (run, caption_sha256, image_sha256)
FROM findings AS f JOIN masks AS m ON m.run = f.run AND m.caption_sha256 = f.caption_sha256
  AND m.image_sha256 IS NOT DISTINCT FROM f.image_sha256
ORDER BY level_rank(f.level), match_rank(f.match), f.p_value NULLS LAST,
         f.delta_s DESC NULLS LAST, f.run, f.caption_sha256, f.image_sha256, m.shard,
         m.key, m.seed, m.metric, m.baseline
"""

VIEWS = (IDENTITY, MATCH_RANK, LEVEL_OF, LEVEL_RANK, EXTENT_OF, CAPTIONS, FINDINGS, FINDING_MAPS)
"""In the order in which they are made; they need the tables."""
