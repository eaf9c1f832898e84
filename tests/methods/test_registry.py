"""The registry reads without torch, and every declaration is one that can be served."""

import subprocess
import sys

import pytest

from scanner.errors import ConfigError
from scanner.methods import Evaluation, Need, registry
from scanner.methods.declaration import existing
from scanner.spec import ScanSpec


def test_declarations_are_read_without_torch():
    code = (
        "import sys; from scanner.methods import registry; from scanner.spec import ScanSpec; "
        "ScanSpec(detectors=tuple(registry.DETECTORS)).fingerprint(); "
        "print(len(registry.DETECTORS), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(len(registry.DETECTORS)), "False"]


@pytest.mark.parametrize("detector", registry.DETECTORS.values(), ids=lambda d: d.name)
def test_a_detector_has_one_way_to_its_score(detector):
    assert (detector.observer is None) != (detector.of_branch is None)
    assert (detector.of_branch is not None) == (Need.LOCALIZATION in detector.needs)
    assert detector.branch in (0, 1)


@pytest.mark.parametrize("metric", registry.MAPS.values(), ids=lambda m: m.name)
def test_a_map_is_made_of_maps_that_there_are(metric):
    assert set(metric.of) <= set(registry.MAPS)
    assert bool(metric.of) == (metric.combine is not None)
    parts = [registry.MAPS[name] for name in metric.of]
    assert all(part.needs <= metric.needs for part in parts)
    assert {e for part in parts for e in part.evaluations} <= set(metric.evaluations)


def test_every_need_is_of_some_method():
    every = (*registry.DETECTORS.values(), *registry.MAPS.values())
    assert {need for method in every for need in method.needs} == set(Need)


def test_what_exists_at_a_source():
    detectors = registry.DETECTORS.values()
    assert set(registry.DETECTORS) - set(existing(detectors, "image")) == {
        "wen_5", "wen", "anisotropy", "dsm", "increment",
    }  # fmt: skip
    assert (
        existing(detectors, "generated") == existing(detectors, "auto") == tuple(registry.DETECTORS)
    )
    assert "bright_ending" not in existing(detectors, "image", captions=False)
    maps = registry.MAPS.values()
    assert set(registry.MAPS) - set(existing(maps, "image")) == {"anisotropy"}
    assert set(registry.MAPS) - set(existing(maps, "generated")) == {"snap_back"}
    assert existing(maps, "auto") == tuple(registry.MAPS)


def test_what_is_low_where_it_is_suspicious():
    columns = (*registry.DETECTORS, "delta_s", "tightness", "somebodys_own")
    assert {c for c in columns if registry.low_is_suspicious(c)} == {
        "flipd", "flipd_null", "tightness",
    }  # fmt: skip


def test_a_network_is_refused_by_what_it_lacks():
    spec = ScanSpec(detectors=("bright_ending", "spread", "wen"), maps=("combined",))
    has = frozenset({Need.MIDDLE_BLOCK})
    with pytest.raises(ConfigError) as caught:
        registry.refuse_network(spec.computed, has, "some/model")
    assert str(caught.value) == (
        "bright_ending and combined need a network with cross attention in its down blocks; "
        "some/model has none: leave them out"
    )
    registry.refuse_network(spec.computed, has | {Need.CROSS_ATTENTION}, "some/model")
    registry.refuse_network(ScanSpec(detectors=("wen",)).computed, frozenset(), "some/model")


def test_an_evaluation_says_what_it_costs():
    assert str(Evaluation(name="a", forward=2, jvp=1, vjp=3, vjp_per_probe=2)) == (
        "2F + 1T + 3V + 2N V"
    )
    assert Evaluation(name="a", forward=2, vjp=1, vjp_per_probe=2).cost(5) == {
        "forward": 2, "vjp": 11,
    }  # fmt: skip
