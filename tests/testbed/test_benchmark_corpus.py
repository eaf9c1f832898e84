"""What the benchmark plants, how often, and what it leaves alone."""

import io
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from scanner.analysis import truth
from scanner.testbed.benchmark import background, doses, items, schedule, shards
from scanner.testbed.benchmark.corpus import Corpus
from scanner.testbed.benchmark.grounds import KINDS, ground, pink_noise
from scanner.testbed.benchmark.strokes import Placed, paint
from scanner.testbed.benchmark.things import THINGS

FEW = items.Numbers(
    verbatim=2, template=3, copies=2, captions=1, retrieved=1, siblings=2, prototypical=1,
    characters=1, names=1, arts=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    return items.items(3, FEW)


def test_every_thing_is_drawn_inside_its_box_and_never_twice_the_same():
    white = np.full((64, 64, 3), 255.0)
    for name, drawing in THINGS.items():
        strokes = [tuple(drawing(np.random.default_rng(seed))) for seed in (1, 2)]
        corners = np.concatenate([s.points for s in strokes[0]])
        assert np.abs(corners).max() < 1.35, name
        one, two = (paint(white, [Placed(s, (200, 40, 40), 32, 32, 24)]) for s in strokes)
        assert (one < 250).any(axis=2).mean() > 0.04, name
        assert (one != two).any(), name
    assert len(THINGS) >= 20


def test_plain_black_and_white_are_the_same_in_every_picture():
    for colour, value in (("black", 0), ("white", 255)):
        assert (ground(np.random.default_rng(1), "plain", colour) == value).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_ground_has_the_colour_that_its_name_says(kind):
    for colour, strongest in (("red", 0), ("green", 1), ("blue", 2)):
        made = ground(np.random.default_rng(5), kind, colour)
        assert made.mean(axis=(0, 1)).argmax() == strongest


def test_pink_noise_falls_as_one_over_frequency():
    rng = np.random.default_rng(0)
    power = np.mean([np.abs(np.fft.rfft(pink_noise(rng, 1.0), axis=1)) for _ in range(40)], (0, 1))
    slope = np.polyfit(np.log(np.arange(2, 20)), np.log(power[2:20]), 1)[0]
    assert -1.0 < slope < -0.3  # a slice of a field of slope -1 falls as its half


def test_items_do_not_depend_on_how_many_others_there_are_by_picture_or_mask():
    few, more = items.items(3, FEW), items.items(3, items.Numbers())
    by_name = {item.name: item for item in more}
    for item in few[:3]:
        assert np.array_equal(items.picture(3, item, 0), items.picture(3, by_name[item.name], 0))


def test_captions_are_distinct_whatever_the_arm(planted):
    captions = [c for item in planted for c in (*item.captions, *item.held_out)]
    shared = {item.held_out[0] for item in planted if item.arm == "siblings"}
    assert len(set(captions)) == len(captions) - len(shared)


def test_verbatim_items_and_regions_of_templates_are_the_same_in_every_copy(planted):
    for item in planted:
        a, b = items.picture(3, item, 0), items.picture(3, item, 7)
        same = (a == b).all(axis=2)
        if item.fixed:
            assert same.all()
        elif item.kind == "template":
            assert same[item.mask].all()
            assert same[~item.mask].mean() < 0.5
            assert abs(item.mask.mean() - item.region / 100) < 0.13 * item.region / 100 + 0.02
        elif not item.repeats:
            assert same.mean() < 0.7
    arms = {item.arm for item in planted}
    assert {"copies-jpeg", "captions-20", "retrieved", "siblings", "character", "style"} <= arms


def test_arms_are_what_their_names_say(planted):
    by_arm = {item.arm: item for item in planted}
    assert len(by_arm["captions-20"].captions) == 20
    assert len(by_arm["captions-20"].held_out) == 2
    assert len(by_arm["retrieved"].captions) == 40
    one, two = (i for i in planted if i.family == "siblings-00")
    differing = [
        a != b for a, b in zip(one.captions[0].split(), two.captions[0].split(), strict=True)
    ]
    assert sum(differing) == 1
    flips = [items.picture(3, by_arm["copies-flip"], copy) for copy in range(8)]
    plain = flips[0]
    assert all(np.array_equal(f, plain) or np.array_equal(f[:, ::-1], plain) for f in flips)
    assert len({f.tobytes() for f in flips}) == 2


def test_doses_are_the_same_numbers_in_every_replicate_but_of_other_items():
    planted = items.items(3, items.Numbers(verbatim=10, template=11))
    one, two = (doses.assign(planted, 3, replicate) for replicate in (1, 2))
    strata = np.array([item.stratum for item in planted])
    for stratum in set(strata):
        rows = strata == stratum
        assert sorted(one.expected[rows]) == sorted(two.expected[rows])
        found = doses.levels(next(i.arm for i in planted if i.stratum == stratum))
        assert set(one.expected[rows]) <= set(found)
    verbatim = np.array([item.arm == "verbatim" for item in planted])
    learned = one.expected[verbatim] >= 1024
    assert (two.expected[verbatim][learned] <= 256).all()
    assert np.array_equal(one.expected, doses.assign(planted, 3, 1).expected)


def test_a_schedule_draws_items_as_often_as_their_doses_and_the_background_once():
    planted = items.items(3, FEW)
    assigned = doses.assign(planted, 3, 1, scale=0.25)
    plan = schedule.plan(assigned, 4000, 16, 0.1, 3, 1)
    drawn = plan.draws(len(planted))
    error = (drawn - assigned.expected) / np.sqrt(assigned.expected + 1)
    assert np.abs(error).max() < 5
    assert (drawn[assigned.expected == 0] == 0).all()
    numbers = plan.numbers[plan.items < 0]
    assert np.array_equal(numbers, np.arange(len(numbers)))
    first = int(np.argmax(assigned.expected))
    assert np.array_equal(plan.numbers[plan.items == first], np.arange(drawn[first]))
    for group in (plan.items < 0, plan.items == first):
        share = plan.dropped[group].mean()
        assert abs(share - 0.1) < 4 * np.sqrt(0.09 / group.sum())


def test_too_much_planted_is_an_error_that_says_so():
    assigned = doses.assign(items.items(3, FEW), 3, 1)
    with pytest.raises(ValueError, match="leave too few to the background"):
        schedule.plan(assigned, 10, 16, 0.1, 3)


def test_background_samples_follow_from_their_number_and_stay_in_their_split():
    one, first = background.background(3, 17)
    two, second = background.background(3, 17)
    assert one.caption == two.caption
    assert np.array_equal(first, second)
    assert background.split_of(one.caption) == "train"
    for kind in background.SHARES:
        evaluation = {f.caption for f in background.held_out(3, "evaluation", kind, 30)}
        calibration = {f.caption for f in background.held_out(3, "calibration", kind, 30)}
        assert len(evaluation) == len(calibration) == 30
        assert not evaluation & calibration


def test_more_held_out_captions_than_there_are_is_an_error():
    with pytest.raises(ValueError, match=r"evaluation holds only about .* trap captions"):
        background.held_out(3, "evaluation", "trap", 2000)


def test_shards_and_truth_agree_and_evaluations_can_read_them(tmp_path):
    shards.write(tmp_path, Corpus(3, form="quick"), 40, (1, 2))
    tables = [pq.read_table(tmp_path / f"truth-{r}.parquet").to_pylist() for r in (1, 2)]
    captions = set()
    for path in tmp_path.glob("*.tar"):
        with tarfile.open(path) as tar:
            for member in tar.getmembers():
                content = tar.extractfile(member).read()
                if member.name.endswith(".txt"):
                    captions.add(content.decode())
                elif member.name.endswith(".png"):
                    assert Image.open(io.BytesIO(content)).size == (64, 64)
    assert captions == {row["caption"] for row in tables[0]}
    assert [r["caption"] for r in tables[0]] == [r["caption"] for r in tables[1]]
    for one, two in zip(*tables, strict=True):
        assert one["mask"] == two["mask"]
        assert one["memorized"] <= (one["dose"] > 0 and one["role"] == "planted")
    assert any(a["dose"] != b["dose"] for a, b in zip(*tables, strict=True))
    known = truth.read(tmp_path / "truth-1.parquet")
    assert len(known) == len(tables[0])
