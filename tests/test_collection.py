"""The collector of cycles rests where it is asked to, and only there."""

import gc

import pytest

from scanner.collection import without_collection


def test_it_rests_until_the_end_also_after_an_error():
    with without_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError, match="x"), without_collection():
        raise ValueError("x")
    assert gc.isenabled()


def test_it_can_be_woken_before_the_end():
    with without_collection() as collect_again:
        collect_again()
        assert gc.isenabled()


def test_one_that_was_off_stays_off():
    with without_collection():
        with without_collection() as collect_again:
            collect_again()
            assert not gc.isenabled()
        assert not gc.isenabled()
