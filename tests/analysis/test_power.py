"""The share of memorized captions that a calibration flags: by kind, dose and what came back."""

import math
from dataclasses import asdict, replace

import duckdb
import numpy as np
import pytest
from made_results import MODEL, SPEC, commit, record, score, write_truth

from scanner.analysis.power import power
from scanner.errors import ConfigError
from scanner.statistics.calibration import Calibration, NullScores
from scanner.statistics.consensus import Consensus
from scanner.statistics.intervals import clopper_pearson

NULLS = Calibration(
    MODEL, SPEC.score_fingerprint(), tuple(map(float, range(99))), {}, 0.01, 99, "today"
)
REGION = np.ones((16, 16), bool)


def planted(make, tmp_path):
    """Return results and the truth: ten templates in two families, ten verbatim, five nulls."""
    results = make(runs=())
    results.write_run("r1", record())
    names = [("template", f"template {n}", f"t{n % 2}") for n in range(10)]
    names += [("verbatim", f"verbatim {n}", f"v{n}") for n in range(10)]
    rows = [score(text, 90.0 + 2 * n, seed=seed) for n, (_, text, _) in enumerate(names)
            for seed in (0, 1)]  # fmt: skip
    rows += [score(f"null {n}", 500.0, seed=seed) for n in range(5) for seed in (0, 1)]
    commit(results, "r1", rows)
    truth = tmp_path / "truth.parquet"
    write_truth(
        truth,
        [(text, kind, family, REGION) for kind, text, family in names]
        + [(f"null {n}", "scene", f"s{n}", None) for n in range(5)]
        + [("never scanned", "verbatim", "v99", REGION)],
    )
    return results, truth


def test_captions_of_a_family_count_once_and_nulls_never(make, tmp_path):
    results, truth = planted(make, tmp_path)
    rows = power(results, "r1", truth, NULLS, [0.01, 0.1])
    named = {(row.group, row.name): row.flagged for row in rows}
    assert set(named) == {("all", ""), ("kind", "template"), ("kind", "verbatim")}
    # Verbatim captions score 110 and more, above every null score; of each template family one.
    every, template = named["all", ""][0.01], named["kind", "template"]
    verbatim = named["kind", "verbatim"][0.01]
    assert (verbatim.hits, verbatim.number) == (10, 10)
    assert (verbatim.low, verbatim.high) == clopper_pearson(10, 10)
    assert (every.number, template[0.01].number) == (12, 2)
    assert template[0.1].hits == 2
    assert every.hits == 10 + template[0.01].hits


def with_columns(truth, target, columns: str):
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT *, {columns} FROM '{truth}') TO '{target}' (FORMAT parquet)")
    return target


def test_by_dose_and_by_what_came_back_where_the_truth_says_so(make, tmp_path):
    results, truth = planted(make, tmp_path)
    more = with_columns(
        truth, tmp_path / "more.parquet",
        "CASE WHEN kind = 'template' THEN 16.0 ELSE 1024.0 END AS dose, "
        "20 AS seeds, CASE WHEN kind = 'template' THEN 9 ELSE 10 END AS copies",
    )  # fmt: skip
    rows = power(results, "r1", more, NULLS, [0.01])
    doses = [(row.name, row.flagged[0.01].number) for row in rows if row.group == "dose"]
    assert doses == [("16", 2), ("1,024", 10)]
    back = {row.name: row.flagged[0.01].hits for row in rows if row.group == "given back"}
    assert back["yes"] == 10
    assert set(back) == {"no", "yes"}


def test_what_came_back_may_lie_in_a_table_of_its_own(make, tmp_path):
    results, truth = planted(make, tmp_path)
    sampled = tmp_path / "extraction.parquet"
    with duckdb.connect() as con:
        con.execute(
            "COPY (SELECT 'verbatim ' || n AS caption, 20 AS seeds, 5 * n AS copies "
            f"FROM range(6) AS r(n)) TO '{sampled}' (FORMAT parquet)"
        )
    rows = power(results, "r1", truth, NULLS, [0.01], extraction=sampled)
    back = {row.name: row.flagged[0.01].number for row in rows if row.group == "given back"}
    assert back == {"no": 2, "yes": 4}
    with pytest.raises(ConfigError, match="must be Parquet with caption, copies and seeds"):
        power(results, "r1", truth, NULLS, [0.01], extraction=truth)


def test_a_caption_without_a_score_is_not_flagged(make, tmp_path):
    results, truth = planted(make, tmp_path)
    before = power(results, "r1", truth, NULLS, [0.01])[0].flagged[0.01]
    commit(results, "r1", [score("never scanned", None, stage="screen")], chunk="b-0")
    after = power(results, "r1", truth, NULLS, [0.01])[0].flagged[0.01]
    assert (after.hits, after.number) == (before.hits, before.number + 1)


def test_another_models_calibration_and_another_corpus_truth_are_refused(make, tmp_path):
    results, truth = planted(make, tmp_path)
    with pytest.raises(ConfigError, match="it is of other"):
        power(results, "r1", truth, replace(NULLS, model="other"), [0.01])
    write_truth(truth, [("elsewhere", "verbatim", "v", REGION), ("null 1", "scene", "s", None)])
    with pytest.raises(ConfigError, match=r"of the 1 memorized captions of .* none is in run r1"):
        power(results, "r1", truth, NULLS, [0.01])


def test_by_consensus_captions_are_compared_with_this_calibration(make, tmp_path):
    """The run's own column is of the calibration that it was scanned with."""
    results = make(runs=())
    results.write_run("r1", record() | {"spec": asdict(replace(SPEC, flag_by="consensus"))})
    rows = [
        score(f"copy {n}", math.exp(n), seed=seed, extra={
            "wen": math.exp(n + 1), "wen_5": math.exp(n + 2), "consensus": -99.0})
        for n in range(8) for seed in (0, 1)
    ]  # fmt: skip
    commit(results, "r1", rows)
    truth = tmp_path / "truth.parquet"
    write_truth(truth, [(f"copy {n}", "verbatim", f"f{n}", REGION) for n in range(8)])
    nulls = tuple(x / 25 for x in range(99))
    own = replace(
        NULLS, consensus=Consensus((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        others={"consensus": NullScores(nulls, {0: nulls, 1: nulls})},
    )  # fmt: skip
    every = power(results, "r1", truth, own, [0.01])[0].flagged[0.01]
    assert (every.hits, every.number) == (4, 8)  # the least is n; the highest null is 3.92
