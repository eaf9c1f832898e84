"""Nights that score samples at their own images, or screen captions: what a finding is, and stays.

Captions that the closed form memorizes have what it draws of them beside them, others too.
"""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import webdataset
from PIL import Image
from scan_here import scan_here
from test_week import MONDAY, SETTINGS, clear, mem, states

from scanner.analysis.fit import fit
from scanner.engine import Job, Resources
from scanner.methods.declaration import existing
from scanner.methods.registry import MAPS
from scanner.models.gaussian import Gaussian
from scanner.nightly.audit import AuditRequest, audit
from scanner.nightly.policy import Policy
from scanner.nightly.state import AuditState
from scanner.records import caption_hash
from scanner.report.page import PageOptions
from scanner.results.folder import Results
from scanner.shards import reading
from scanner.spec import ScanSpec
from scanner.statistics.calibration import Screen, load

MODEL = Gaussian()


def drawn(caption: str, shift: int = 0) -> bytes:
    """Return what the model draws of a caption, a little brighter or not."""
    pixels = MODEL.decode(MODEL.encode([caption])[:, 0])[0].numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).point(lambda value: value + shift).save(stream, "PNG")
    return stream.getvalue()


def write(path: Path, samples: list[tuple[str, bytes | None]]) -> str:
    with webdataset.TarWriter(str(path)) as tar:
        for number, (caption, image) in enumerate(samples):
            sample = {"__key__": f"{path.stem}{number:03d}", "txt": caption}
            tar.write(sample if image is None else sample | {"png": image})
    return str(path)


def spec_of(source: str, **changes) -> ScanSpec:
    maps = existing((MAPS[name] for name in (*ScanSpec().maps, "snap_back")), source)
    assert set(maps) <= set(MAPS)
    return ScanSpec(source=source, timestep=401, maps=maps, fpr=0.05, **SETTINGS, **changes)


@pytest.fixture(scope="module")
def nulls(tmp_path_factory) -> dict[str, Path]:
    """Calibrations of both sources."""
    folder = tmp_path_factory.mktemp("null")
    texts = clear(*(f"null{n}" for n in range(40)))
    shard = write(folder / "null.tar", [(text, drawn(text)) for text in texts])
    found = {}
    for source in ("generated", "image"):
        spec = spec_of(source, localize="all", store_image=False)
        job = Job(model="gaussian", shards=(shard,), results=str(folder / source), spec=spec)
        found[source] = folder / f"{source}.json"
        fit(Results(job.results), scan_here(job).run).save(found[source])
    return found


class Nights:
    def __init__(self, folder: Path, nulls: dict[str, Path]) -> None:
        self.corpus, self.state, self.nulls = folder / "corpus", AuditState(folder / "state"), nulls
        self.corpus.mkdir()

    def put(self, name: str, samples) -> str:
        return write(self.corpus / f"{name}.tar", samples)

    def night(self, source="image", *, most=None, null=None, **changes):
        first = null or self.nulls["image" if source == "image" else "generated"]
        job = Job(
            model="gaussian", shards=tuple(reading.expand([str(self.corpus)])),
            results=str(self.state.results.root), spec=spec_of(source, **changes),
            calibration=str(first), images=source != "image", chunk_size=4,
            image_calibration=str(self.nulls["image"]) if source == "auto" else None,
        )  # fmt: skip
        request = AuditRequest(job=job, policy=Policy(), page=PageOptions(images=reading.images))
        resources = Resources(device="cpu", actors=1, threads=1, most_samples=most)
        return audit(self.state, request, resources, lambda event: None, scan=scan_here, now=MONDAY)


@pytest.fixture
def nights(tmp_path, nulls) -> Nights:
    return Nights(tmp_path, nulls)


def removal(done) -> list[dict[str, str]]:
    with (done.folder / "removal.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_two_images_of_one_caption_are_two_findings(nights):
    one, (plain,) = mem("two"), clear("plain")
    nights.put("a", [(one, drawn(one)), (plain, drawn(plain)), (one, None)])
    first = nights.night()
    assert (first.night.exit_code, states(first)) == (1, {one: "new"})
    (alert,) = first.night.alerts
    found = alert.change.finding
    assert found.identity != found.caption_sha256 == caption_hash(one)
    assert found.match is None
    assert found.snap_back is not None
    assert found.snap_back > 0
    assert [row["key"] for row in removal(first)] == [
        "a000"
    ]  # the sample without an image is a reject

    nights.put("b", [(one, drawn(one, 3)), (one, drawn(one))])
    second = nights.night()
    by_state = {a.change.state: a.change for a in second.night.alerts}
    assert by_state.keys() == {"new", "worse"}
    assert by_state["worse"].finding.identity == found.identity
    assert by_state["worse"].reason == "new data: 1 copies, now 2"
    other = by_state["new"].finding
    assert (other.caption, other.key, other.copies) == (one, "b000", 1)
    owners = {(row["finding"], row["key"]) for row in removal(second) if row["because"] != "image"}
    assert owners == {(found.identity, "a000"), (found.identity, "b001"), (other.identity, "b000")}
    sarif = json.loads((second.folder / "findings.sarif").read_text())["runs"][0]["results"]
    prints = {result["partialFingerprints"]["memscanFinding/v1"] for result in sarif}
    images = {result["properties"]["imageSha256"] for result in sarif}
    assert len(prints) == len(images) == 2

    nights.state.mute(other.identity, "licensed", MONDAY)
    nights.put("b", [(one, drawn(one, 3))])
    third = nights.night().night
    assert [a.change.finding.identity for a in third.alerts if a.muted] == [other.identity]
    nights.state.mute(caption_hash(one), "licensed", MONDAY)
    assert all(a.muted for a in nights.night().night.alerts)
    (nights.corpus / "a.tar").unlink()
    gone = [a.change for a in nights.night().night.alerts if a.change.state == "resolved"]
    assert [(c.finding.identity, c.reason) for c in gone] == [(found.identity, "removed shard")]


def test_a_copy_of_an_image_that_was_scored_is_found_and_the_page_shows_it(nights):
    one, (plain, other) = mem("two"), clear("plain", "other")
    nights.put("a", [(one, drawn(one)), (plain, drawn(plain)), (other, drawn(one, 2))])
    done = nights.night()
    (alert,) = [a for a in done.night.alerts if a.change.finding.caption == one]
    assert alert.images is not None
    assert {copy.key: copy.same_image for copy in alert.images.copies} == {
        "a000": True, "a002": True,
    }  # fmt: skip
    assert {row["key"]: row["because"] for row in removal(done)} == {
        "a000": "caption and image", "a002": "image",
    }  # fmt: skip
    page = (done.folder / "report.html").read_text(encoding="utf-8")
    shown = json.loads(
        page.partition(f'id="i-{alert.change.finding.identity}">')[2].partition("<")[0]
    )
    assert "<dt>images stored in a region</dt><dd>1</dd>" in page
    assert shown["t"].startswith("data:image/webp")
    assert shown["h"].startswith("data:image/png")
    assert shown["g"] == ""


def test_a_night_of_another_source_makes_no_known_finding_new(nights):
    one, two = mem("two"), mem("four")
    nights.put("a", [(one, drawn(one)), (one, drawn(one, 3)), (two, None)])
    sampled = nights.night("generated")
    assert states(sampled) == {one: "new", two: "new"}
    at_images = nights.night("image")
    changes = [a.change for a in at_images.night.alerts]
    assert [(c.finding.caption, c.state) for c in changes if c.after] == [(one, "persisting")] * 2
    assert all("new source" in c.reason for c in changes)
    # Samples without an image are rejected, so nothing is known of theirs any more.
    assert [(c.finding.caption, c.state) for c in changes if not c.after] == [(two, "resolved")]
    assert (at_images.night.exit_code, "new source" in at_images.night.causes) == (0, True)
    both = nights.night("auto")
    assert {a.change.state for a in both.night.alerts if a.change.finding.caption == one} == {
        "persisting"
    }
    assert states(both) == {two: "new"}
    back = nights.night("generated")
    assert states(back) == {}
    assert len(back.night.alerts) == 2


def test_a_night_without_any_image_says_so(nights):
    nights.put("a", [(text, None) for text in clear("x", "y")])
    done = nights.night()
    assert done.night.exit_code == 3
    assert "no sample can be scored, 2 are rejected" in (done.folder / "summary.md").read_text()


def test_captions_that_a_screen_drops_are_counted_and_found_by_nobody(nights, tmp_path):
    one, others = mem("two"), clear("x", "y", "z")
    nights.put("a", [(text, drawn(text)) for text in (one, *others)])
    assert states(nights.night("generated")) == {one: "new"}
    screened = nights.night("generated", screen=1e9)
    assert states(screened) == {one: "resolved"}
    (alert,) = screened.night.alerts
    assert alert.change.reason == "new settings"
    assert screened.night.figures["screened"] == 4
    assert "4 of them dropped by the screen" in (screened.folder / "summary.md").read_text()
    page = (screened.folder / "report.html").read_text(encoding="utf-8")
    assert "4 captions dropped after one step" in page
    null = tmp_path / "screened.json"
    replace(load(nights.nulls["generated"]), screen=Screen(1e-9, 0.9, 9, 1.0, 0)).save(null)
    assert states(nights.night("generated", null=null, screen=1e-9)) == {one: "new"}
