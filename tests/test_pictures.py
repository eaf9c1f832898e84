import io
import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from scanner import pictures
from scanner.pictures import MATCH_MSE

RNG = np.random.default_rng(0)
A, OTHER = (RNG.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(2))
TOP = np.arange(8)[:, None].repeat(8, 1) < 4


def encoded(pixels: np.ndarray, kind: str = "PNG", **more: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **more)
    return out.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(name: bytes, content: bytes) -> bytes:
        crc = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rest = chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + rest


def test_a_match_tells_a_copy_from_a_partial_copy_and_from_nothing():
    half = np.where(np.arange(32)[:, None, None] < 16, A, OTHER)
    assert pictures.match(A, A, None) == pictures.Match("verbatim", 0.0, tiled=0.0, contrast=0.0)
    assert pictures.match(A, A, TOP) == pictures.Match("verbatim", 0.0, 0.0, 0.0, 0.0, 0.0)
    partial = pictures.match(half, A, TOP)
    assert (partial.verdict, partial.error, partial.inside) == ("template", 0.0, 0.0)
    assert partial.outside is not None
    assert partial.outside > 10 * MATCH_MSE
    other = pictures.match(OTHER, A, TOP)
    assert other.verdict == "none"
    whole = ((A / 255 - OTHER / 255) ** 2).mean()
    assert other.error == pytest.approx(min(other.inside, whole))


def test_a_mask_that_leaves_nothing_inside_or_outside_has_no_error_there():
    full, empty = np.ones((8, 8), bool), np.zeros((8, 8), bool)
    assert pictures.match(A, A, full) == pictures.Match("verbatim", 0.0, 0.0, None, 0.0, 0.0)
    assert pictures.match(A, A, empty) == pictures.Match("verbatim", 0.0, None, None, 0.0, 0.0)


@pytest.mark.parametrize("shape", [(32, 32), (37, 50), (4, 9), (2, 3)])
def test_the_tiled_distance_is_that_of_the_worst_of_sixteen_tiles(shape):
    a, b = (RNG.integers(0, 256, (*shape, 3), dtype=np.uint8) for _ in range(2))
    rows, columns = ([side * i // min(4, side) for i in range(min(4, side) + 1)] for side in shape)
    tiles = [
        np.sqrt(np.mean((a[top:end, left:right] / 255 - b[top:end, left:right] / 255) ** 2))
        for top, end in pairwise(rows) for left, right in pairwise(columns)
    ]  # fmt: skip
    assert pictures.tiled_l2(a, b) == pytest.approx(max(tiles), rel=1e-12)
    assert pictures.match(a, b, None).tiled == pictures.tiled_l2(a, b)


def test_a_shared_background_is_plain_and_no_copy():
    one = np.full((64, 64, 3), 255, np.uint8)
    other = one.copy()
    other[16:26, 16:26] = 120
    found = pictures.match(one, other, None)
    assert found.verdict == "plain"
    assert found.error < MATCH_MSE
    assert found.contrast >= pictures.CONTRAST
    assert pictures.tiled_l2(one, other) > 2 * pictures.TILED_L2


def test_two_flags_that_differ_by_their_crests_are_no_copies_and_a_noisy_copy_is_one():
    flag = np.full((64, 64, 3), 255, np.uint8)
    flag[:, :32] = (0, 30, 120)
    one, other = flag.copy(), flag.copy()
    one[34:44, 50:60, 0] = 60
    other[34:44, 50:60, 2] = 60
    noisy = np.clip(one + RNG.normal(0, 12, one.shape), 0, 255).astype(np.uint8)
    crests, copied = pictures.match(one, other, None), pictures.match(noisy, one, None)
    assert max(crests.error, copied.error) < MATCH_MSE
    assert (crests.verdict, copied.verdict) == ("plain", "verbatim")


@pytest.mark.parametrize("shape", [(32, 32), (37, 50), (4, 9), (2, 3)])
def test_the_contrast_error_is_the_worst_tile_beside_what_it_varies(shape):
    a, b = (RNG.integers(0, 256, (*shape, 3), dtype=np.uint8) for _ in range(2))
    rows, columns = ([side * i // min(4, side) for i in range(min(4, side) + 1)] for side in shape)
    cells = [(slice(t, e), slice(le, r)) for t, e in pairwise(rows) for le, r in pairwise(columns)]

    def spread(picture):
        return (picture.reshape(-1, 3) / 255).var(axis=0).mean()

    least = pictures.SPREAD * min(spread(a), spread(b))
    shares = [
        ((a[cell] / 255 - b[cell] / 255) ** 2).mean()
        / ((spread(a[cell]) + spread(b[cell])) / 2 + least)
        for cell in [*cells, (slice(None), slice(None))]
    ]
    assert pictures.contrast_error(a, b) == pytest.approx(max(shares), rel=1e-9)


def test_the_contrast_error_of_a_region_leaves_out_what_is_outside():
    left = np.zeros((64, 64), bool)
    left[:, :30] = True
    one, other = RNG.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    other[left] = one[left]
    assert pictures.contrast_error(one, other, left) == 0
    assert pictures.contrast_error(one, other) > 1
    assert pictures.contrast_error(one, other, ~left) > 1


def test_pictures_that_do_not_vary_tell_nothing():
    grey = np.full((16, 16, 3), 90, np.uint8)
    assert pictures.contrast_error(grey, grey) == np.inf
    assert pictures.match(grey, grey, None).verdict == "plain"


def test_tightness_is_the_mean_over_all_pairs_of_generations():
    several = [RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(4)]
    pairs = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    expected = np.mean([pictures.tiled_l2(several[i], several[j]) for i, j in pairs])
    assert pictures.tightness(several) == pytest.approx(expected)
    assert pictures.tightness([A, A, A]) == 0
    assert pictures.tightness([A]) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, encoded(A)[:900],
     encoded(A, "JPEG")[:400], encoded(A, "GIF")],
)  # fmt: skip
def test_what_is_broken_or_of_another_format_is_refused(content):
    with pytest.raises(ValueError, match="not a readable image"):
        pictures.decoded(content, (8, 8))
    with pytest.raises(ValueError, match="not a readable image"):
        pictures.sketch(content)


@pytest.mark.parametrize("size", [(9000, 9000), (50_000, 50_000)])
def test_a_picture_that_claims_too_many_pixels_is_refused_before_it_is_decoded(size, recwarn):
    with pytest.raises(ValueError, match=r"too many|readable"):
        pictures.sketch(png_that_claims(*size))
    assert not recwarn


def test_a_sketch_never_differs_more_than_the_pictures_do():
    smooth = [np.asarray(Image.fromarray(p).resize((96, 96), Image.Resampling.BICUBIC))
              for p in (A, OTHER)]  # fmt: skip
    one, two = (pictures.sketch(encoded(p)) / 255 for p in smooth)
    apart = ((smooth[0] / 255 - smooth[1] / 255) ** 2).mean()
    assert ((one - two) ** 2).mean() <= apart + 1e-3


def test_a_large_jpeg_is_sketched_as_its_pixels_would_be():
    large = np.asarray(Image.fromarray(A).resize((800, 640), Image.Resampling.BICUBIC))
    whole = Image.fromarray(large).resize((16, 16), Image.Resampling.BOX)
    found = pictures.sketch(encoded(large, "JPEG", quality=95))
    assert ((found / 255 - np.asarray(whole) / 255) ** 2).mean() < MATCH_MSE / 20
