"""Detectors of other distributions: found by their metadata, scanned, and refused by name."""

import importlib
import shutil
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scan_here import scan_here
from webdataset.writer import TarWriter

from scanner.analysis.evaluate import evaluate
from scanner.analysis.query import connect
from scanner.cli import options
from scanner.engine.identity import identify
from scanner.engine.job import Job
from scanner.errors import ConfigError
from scanner.methods import plugins, registry
from scanner.models.gaussian import Gaussian
from scanner.records import Caption
from scanner.results.folder import Results
from scanner.results.score_cache import runs_like
from scanner.scan.scanner import Scanner
from scanner.spec import ScanSpec

EXAMPLE = Path(__file__).parents[2] / "examples" / "detector-package"
CAPTIONS = [Caption("s.tar", f"k{i}", f"caption number {i}") for i in range(4)]


def forget():
    importlib.invalidate_caches()
    plugins.installed.cache_clear()
    registry.detector.cache_clear()


class Site:
    """A folder on the path with distributions as pip leaves them."""

    def __init__(self, folder):
        self.folder = folder

    def install(self, name, version, points, **modules):
        for old in self.folder.glob(f"{name}-*.dist-info"):
            shutil.rmtree(old)
        about = self.folder / f"{name}-{version}.dist-info"
        about.mkdir()
        about.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        lines = "".join(f"{point} = {target}\n" for point, target in points.items())
        about.joinpath("entry_points.txt").write_text(f"[{plugins.GROUP}]\n{lines}")
        for module, text in modules.items():
            self.folder.joinpath(f"{module}.py").write_text(text)
        forget()

    def example(self, version="0.1.0"):
        import tomllib

        project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
        points = project["entry-points"][plugins.GROUP]
        module = (EXAMPLE / "memscan_late_peak.py").read_text()
        self.install("memscan_late_peak", version, points, memscan_late_peak=module)


@pytest.fixture
def site(tmp_path, monkeypatch):
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Site(folder)
    for name in set(sys.modules) - before:
        if name.startswith("memscan_"):
            del sys.modules[name]
    monkeypatch.undo()
    forget()


def job(tmp_path, out="results", **spec):
    shard = tmp_path / "a.tar"
    if not shard.exists():
        with TarWriter(str(shard)) as tar:
            for caption in CAPTIONS:
                tar.write({"__key__": caption.key, "txt": caption.text})
    asked = ScanSpec(**{"steps": 6, "localize": "none"} | spec)
    return Job(
        model="gaussian", shards=(str(shard),), results=str(tmp_path / out), spec=asked
    )  # fmt: skip


def test_the_example_is_listed_without_its_code_and_scanned_with_it(site, tmp_path):
    site.example()
    assert registry.detector_names() == (*registry.DETECTORS, "late_peak")
    assert "memscan_late_peak" not in sys.modules
    assert options.detectors("all")[-1] == "late_peak"
    summary = scan_here(job(tmp_path, detectors=("late_peak", "wen")))
    assert (summary.scored, summary.rejected) == (4, 0)
    results = Results(str(tmp_path / "results"))
    with closing(connect(results)) as con:
        rows = con.execute("SELECT key, late_peak, wen FROM scores ORDER BY key").fetchall()
    alone = Scanner(Gaussian(), ScanSpec(steps=6, localize="none", detectors=("late_peak",)))
    expected = {row.caption.key: row.extra["late_peak"] for row in alone.scan(CAPTIONS).scores}
    assert {key: late for key, late, _ in rows} == pytest.approx(expected, rel=1e-5)
    assert all(late > 0 for _, late, _ in rows)
    record = results.read_run(summary.run)
    assert record["identity"]["packages"] == {"late_peak": "memscan_late_peak 0.1.0"}


def test_the_score_of_the_example_is_its_formula(site):
    site.example()
    asked = ScanSpec(steps=10, localize="none", detectors=("late_peak",))
    from scanner.numerics.detectors import noise_difference, norm
    from scanner.scan.stages.draws import Draw
    from scanner.scan.stages.sampling import detect

    draw = Draw("caption number 1", "aa", 0)
    found = detect(Gaussian(), [draw], asked).scores["late_peak"].item()
    late, model = [], Gaussian()
    sigmas = model.schedule(10).sigmas
    for step in (k for k in range(10) if sigmas[k] < sigmas[0] / 2):
        point = detect(model, [draw], ScanSpec(steps=10, map_back=9 - step, localize="none")).point
        level = (model.schedule(10).timesteps[step], model.schedule(10).alphas[step], sigmas[step])
        own, empty = (model.score(point, level, model.encode([t])) for t in (draw.text, ""))
        late.append(norm(noise_difference(own, empty, sigmas[step])).item())
    assert 0 < len(late) < 10
    assert found == pytest.approx(max(late), rel=1e-4)


def test_another_version_is_another_run_and_takes_no_scores_of_the_earlier_one(site, tmp_path):
    site.example("0.1.0")
    first = identify(job(tmp_path, detectors=("late_peak",)))
    plain, first_run = identify(job(tmp_path)).run, first.run
    scan_here(first.job)
    site.example("0.2.0")
    again = identify(job(tmp_path, detectors=("late_peak",)))
    assert again.run != first_run
    assert identify(job(tmp_path)).run == plain
    summary = scan_here(again.job)
    assert (summary.run, summary.recalled) == (again.run, 0)
    results = Results(str(tmp_path / "results"))
    identity = results.run_file(again.run).identity
    assert runs_like(results, again.run, identity) == [again.run]
    without = replace(identity, packages={})
    assert set(runs_like(results, again.run, without)) == {first_run, again.run}


@pytest.mark.parametrize(
    ("point", "module", "reason"),
    [
        ("memscan_broken:FOUND", "raise RuntimeError('no such\\nlibrary')",
         "cannot be loaded from memscan_broken:FOUND (RuntimeError: no such)"),
        ("memscan_broken:MISSING", "", "cannot be loaded from memscan_broken:MISSING (Attribute"),
        ("memscan_nowhere:FOUND", "", "cannot be loaded from memscan_nowhere:FOUND (ModuleNotF"),
        ("memscan_broken:FOUND", "FOUND = 3", "an observer, got a int"),
        ("memscan_broken:FOUND", "from scanner.methods import Detector\n"
         "FOUND = Detector(name='other', title='', formula='', unit='', source='',"
         " observer=print)", "an observer, got one named 'other' with an observer"),
    ],
)  # fmt: skip
def test_a_broken_distribution_is_one_line_that_names_it(site, point, module, reason):
    site.install("memscan_broken", "2.1", {"broken": point}, memscan_broken=module)
    assert "broken" in registry.detector_names()
    for ask in (lambda: ScanSpec(detectors=("broken",)), lambda: options.detectors("all")):
        with pytest.raises(ConfigError) as caught:
            ask()
        text = str(caught.value)
        assert "the detector broken of memscan_broken 2.1" in text
        assert reason in text
        assert "\n" not in text
    ScanSpec(detectors=("wen",))


@pytest.mark.parametrize("name", ["wen", "delta_h", "delta_s_early", "increment_z", "tightness"])
def test_a_name_that_exists_is_refused(site, name):
    site.install("memscan_other", "1.0", {name: "memscan_other:FOUND"})
    with pytest.raises(ConfigError, match=f"{name} of memscan_other 1.0 has a name that memscan"):
        ScanSpec(detectors=(name,))
    with pytest.raises(ConfigError, match="memscan_other"):
        options.detectors("all")


def test_a_name_that_no_column_can_have_is_refused(site):
    site.install("memscan_other", "1.0", {"Late-Peak": "memscan_other:FOUND"})
    with pytest.raises(ConfigError, match=r"'Late-Peak' of memscan_other 1\.0 must have a name of"):
        options.detectors("all")


def test_two_distributions_with_one_name_are_refused(site):
    site.example()
    site.install("memscan_twin", "3.0", {"late_peak": "memscan_twin:FOUND"})
    with pytest.raises(ConfigError, match=r"memscan_late_peak 0\.1\.0 and memscan_twin 3\.0"):
        ScanSpec(detectors=("late_peak",))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("1 / 0", "(ZeroDivisionError: division by zero)"),
        ("self.kept.append(step.x)", "scores must be a tensor of shape (2,), got (2, 4, 8, 8)"),
    ],
)
def test_a_detector_that_fails_ends_the_scan_in_its_name(site, body, reason):
    module = (
        "from scanner.methods import Detector, ObserverBase\n"
        "class Fails(ObserverBase):\n"
        f"    def update(self, step):\n        {body}\n"
        "FOUND = Detector(name='fails', title='', formula='', unit='', source='',"
        " observer=lambda _: Fails())\n"
    )
    site.install("memscan_fails", "1.0", {"fails": "memscan_fails:FOUND"}, memscan_fails=module)
    scanner = Scanner(Gaussian(), ScanSpec(steps=3, localize="none", detectors=("fails",)))
    with pytest.raises(ConfigError) as caught:
        scanner.scan(CAPTIONS[:2])
    assert "the detector fails of memscan_fails 1.0 failed" in str(caught.value)
    assert reason in str(caught.value)


def test_a_detector_that_is_not_installed_any_more_is_told_so(site):
    site.example()
    asked = ScanSpec(steps=3, localize="none", detectors=("late_peak",))
    shutil.rmtree(next(site.folder.glob("*.dist-info")))
    forget()
    with pytest.raises(ConfigError, match="there is no detector late_peak here: install"):
        Scanner(Gaussian(), asked).scan(CAPTIONS[:1])
    with pytest.raises(ConfigError, match=r"detectors must be among .* got 'late_peak'"):
        ScanSpec(detectors=("late_peak",))


def test_eval_says_which_score_it_knows_nothing_of(site, tmp_path):
    site.example()
    asked = job(tmp_path, detectors=("late_peak", "flipd_null"), localize="all", probes=4)
    summary, truth = scan_here(asked), tmp_path / "truth.parquet"
    content = {
        "caption_sha256": [caption.sha256 for caption in CAPTIONS],
        "kind": ["verbatim", "verbatim", "clean", "clean"], "family": ["a", "b", "c", "d"],
        "memorized": [True, True, False, False], "height": [32] * 4, "width": [32] * 4,
        "mask": [[0, 1024], [0, 1024], [1024], [1024]],
    }  # fmt: skip
    pq.write_table(pa.table(content), truth)
    results = Results(str(tmp_path / "results"))
    known = evaluate(results, summary.run, truth, bootstrap=10)
    shutil.rmtree(next(site.folder.glob("*.dist-info")))
    forget()
    unknown = evaluate(results, summary.run, truth, bootstrap=10)
    assert not any("late_peak" in note for note in known.notes)
    assert [note for note in unknown.notes if "late_peak" in note] == [
        "late_peak is of no distribution that is installed here: it is read as suspicious where "
        "it is high"
    ]
    assert {row["score"] for row in unknown.detection} >= {"late_peak", "flipd_null"}
