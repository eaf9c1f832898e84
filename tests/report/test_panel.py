import io
import warnings
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from made_results import commit, jpeg, mask, score, write_truth
from PIL import Image

from scanner.analysis.evidence import colour_scale, gather, picture
from scanner.analysis.findings import findings
from scanner.analysis.query import connect
from scanner.errors import ConfigError
from scanner.report.canvas import as_image, map_scale, outline, overlay, pixel_figure
from scanner.report.panel import _numbers, contact_sheet, panel, sheet
from scanner.report.thumbnails import gallery

SIDE = 16
REGION = np.zeros((SIDE, SIDE), bool)
REGION[3:9, 4:12] = True


def no_image(shard: str, key: str) -> None:
    return None


@pytest.fixture
def results(make):
    results = make()
    rng = np.random.default_rng(0)
    scores, masks = [], []
    for i in range(4):
        text = f"print of the hidden garden number {i}"
        for seed in (0, 1):
            scores.append(score(text, 5.0 + i + seed, key=f"img{i}", seed=seed, p_value=0.01,
                                flagged=i > 1))  # fmt: skip
            if i < 3:
                values = np.where(REGION, 40.0, 0.0) + rng.normal(size=REGION.shape)
                masks.append(mask(text, values, key=f"img{i}", seed=seed, threshold=20.0,
                                  image=jpeg()))  # fmt: skip
                masks.append(mask(text, values**2, key=f"img{i}", seed=seed, metric="delta_s"))
    scores.append(score("another text", 1.0, key="img0", shard="b.tar"))
    commit(results, "r1", scores, masks)
    return results


@pytest.mark.parametrize(
    ("inside", "outside", "told"),
    [(0.12, 0.03, "12% of the mask, 3% of the rest"), (None, None, "")],
)
def test_evidence_says_how_much_of_its_mask_is_in_doubt(make, inside, outside, told):
    results = make()
    row = mask("text", np.where(REGION, 40.0, 0.0), threshold=20.0)
    rows = [replace(row, mask_doubt=inside, outside_doubt=outside)]
    commit(results, "r1", [score("text", 5.0)], rows)
    with closing(connect(results, runs=["r1"])) as con:
        shown = gather(con, "text", no_image)
    assert shown.doubt == told
    assert any("in doubt" in text for text in _numbers(shown)) == bool(told)


def test_a_panel_shows_pictures_maps_and_mask(results) -> None:
    asked = []

    def images(shard: str, key: str) -> bytes:
        asked.append((shard, key))
        return jpeg(40)

    image = panel(results, "r1", "img1", images, REGION)
    assert asked == [("a.tar", "img1")]
    colours = set(map(tuple, np.asarray(image).reshape(-1, 3)))
    black, bright = (0, 0, 4), (252, 255, 164)
    assert {black, bright, (255, 214, 10), (0, 201, 255)} <= colours
    assert image.width > 5 * 256


def test_what_is_not_there_is_said_and_not_an_error(results) -> None:
    assert panel(results, "r1", "img3", no_image).width > 5 * 256
    broken = panel(results, "r1", "img1", lambda shard, key: b"\xff\xd8 not a picture")
    assert np.array_equal(np.asarray(broken), np.asarray(panel(results, "r1", "img1", no_image)))


def test_a_hash_prefix_is_as_good_as_a_key(results) -> None:
    with connect(results) as con:
        found = gather(con, "img2", no_image)
        same = gather(con, found.caption_sha256[:8].upper(), no_image)
    assert same.caption_sha256 == found.caption_sha256
    assert found.seed == 1
    assert found.mask is not None
    assert (found.mask == REGION).all()


def test_unknown_and_ambiguous_keys_list_what_is_near(results) -> None:
    with pytest.raises(ConfigError, match=r"(?s)no sample has .*'imge1'.*nearest are:.*img1"):
        panel(results, "r1", "imge1", no_image)
    with pytest.raises(ConfigError, match=r"(?s)'img0' is more than one caption.*another text"):
        panel(results, "r1", "img0", no_image)


def test_the_scale_is_the_run_s_and_colours_are_absolute(results) -> None:
    with connect(results) as con:
        scale = colour_scale(con)
    assert 38 < scale["delta_h"] < 46
    assert 1400 < scale["delta_s"] < 2000
    top = scale["delta_h"]
    assert map_scale(top)([-5.0, 0.0, top, 10 * top]).tolist() == [0, 0, 1, 1]
    assert map_scale(top)(np.expm1(np.log1p(top) / 2)) == pytest.approx(0.5)


def test_a_run_whose_maps_are_of_another_baseline_is_shown_by_those(make) -> None:
    """As of images that were scored without captions."""
    results = make("early")
    maps = [
        mask("text", REGION * 40.0, key="img", threshold=20.0, baseline="early", metric=metric)
        for metric in ("delta_h", "delta_s")
    ]
    commit(results, "r1", [score("text", 5.0, key="img", flagged=True)], maps)
    assert panel(results, "r1", "img", no_image).width > 5 * 256
    with closing(connect(results, runs=["r1"])) as con:
        assert colour_scale(con).keys() == {"delta_h", "delta_s"}
        made = gallery(con, findings(con), lambda shard, keys: iter(()), cap=1 << 20, most_shards=1)
    (shown,) = made.illustrations.values()
    assert shown.heatmap
    assert shown.mask is not None


def test_the_colours_of_a_map_only_get_brighter() -> None:
    image = Image.open(io.BytesIO(overlay(np.expm1(np.linspace(0, 5, 200))[None], np.expm1(5.0))))
    light = np.asarray(image.convert("RGB"))[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) >= -0.5).all()


def test_a_sheet_has_a_row_per_caption(results) -> None:
    with connect(results) as con:
        scale = colour_scale(con)
        rows = [gather(con, f"img{i}", no_image, truth=REGION, label="template") for i in (1, 2, 3)]
    short, long = sheet(rows[:1], scale), sheet(rows, scale, title="Findings")
    assert short.width == long.width
    assert long.height > short.height + 2 * 128
    with pytest.raises(ConfigError, match=r"^a sheet needs at least one caption"):
        sheet([], scale)


@pytest.mark.parametrize("region", [REGION, np.ones((8, 4), bool)])
def test_an_outline_goes_around_its_mask(region) -> None:
    figure = pixel_figure(64, 64)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(np.zeros((64, 64, 3)))
    outline(axes, region, "#ff0000", 2)
    outline(axes, None, "#00ff00", 2)
    outline(axes, np.zeros((3, 3), bool), "#00ff00", 2)
    pixels = np.asarray(as_image(figure)).astype(int)
    red = (pixels[..., 0] > 100) & (pixels[..., 1] < 60)
    rows, columns = np.nonzero(red)
    step = 64 // np.array(region.shape)
    low = np.argwhere(region).min(0) * step
    high = (np.argwhere(region).max(0) + 1) * step
    assert np.abs(np.array([rows.min(), columns.min()]) - low).max() <= 2
    assert np.abs(np.array([rows.max(), columns.max()]) - high).max() <= 2
    inside = tuple(((low + high) // 2).tolist())
    assert not red[inside]
    assert not (pixels[..., 1] > pixels[..., 0] + 60).any()


@pytest.mark.parametrize(
    "text",
    ["$\\frac{a}{$", "漢字 \U0001f680 ∅", "a$b_{", "x" * 500, "W" * 500, "A MAP " * 99, "漢" * 300],
)
def test_no_caption_is_a_formula_or_a_complaint(make, text) -> None:
    results = make()
    commit(results, "r1", [score(text, 1.0, key="img")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = np.asarray(panel(results, "r1", "img", no_image))
    left, right = drawn[:, :16], drawn[:, -16:]
    assert (drawn[:60] < 128).any(), "there is a title"
    assert (left == 255).all()
    assert (right == 255).all()


def test_hostile_pictures_are_no_pictures() -> None:
    gif = io.BytesIO()
    Image.new("RGB", (4, 4)).save(gif, "GIF")
    bomb = io.BytesIO()
    Image.new("1", (12_000, 12_000)).save(bomb, "PNG")
    for content in (b"", None, b"GIF89a", gif.getvalue(), bomb.getvalue(), jpeg()[:200]):
        assert picture(content) is None
    assert picture(jpeg()).size == (16, 16)


def test_a_truth_table_gives_the_regions_and_the_kinds(results, tmp_path) -> None:
    path = tmp_path / "truth.parquet"
    text = "print of the hidden garden number {}"
    write_truth(path, [(text.format(i), "template", "f", REGION) for i in range(3)]
                + [("another text", "scene", "s", None)])  # fmt: skip
    by_table = panel(results, "r1", "img1", no_image, str(path))
    by_mask = panel(results, "r1", "img1", no_image, REGION)
    assert np.array_equal(np.asarray(by_table), np.asarray(by_mask))
    heights = [
        contact_sheet(results, "r1", no_image, path, wanted).height
        for wanted in ({"template": 1}, {"template": 2, "scene": 5}, {"template": 9, "scene": 9})
    ]
    assert np.diff(heights).tolist() == [2 * 138, 138]
    with pytest.raises(ConfigError, match=r"^a sheet needs at least one caption"):
        contact_sheet(results, "r1", no_image, path, {"verbatim": 3})
