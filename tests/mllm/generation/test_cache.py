"""Sizes of the preallocated cache."""

import itertools

import pytest

from emu3.mllm.generation.decoder import bucket, cache_slots, capacities


@pytest.mark.parametrize("slots", [1, 128, 129, 200, 1000, 2049, 8253, 40000])
def test_bucket_holds_the_slots_with_little_waste(slots):
    assert slots <= bucket(slots) <= max(128, slots + 127, slots * 9 / 8 + 1)


def test_prompts_of_like_length_share_a_bucket():
    assert len({bucket(slots) for slots in range(193, 257)}) == 1


def test_a_small_picture_gets_one_size():
    assert capacities(40, 200, known=True) == [256]


def test_a_long_picture_grows_by_doubling_to_its_end():
    sizes = capacities(60, 8253, known=True)
    assert sizes[0] == 128
    assert sizes[-1] == bucket(8253)
    assert all(b <= 2 * a for a, b in itertools.pairwise(sizes))


def test_where_unused_slots_cost_nothing_a_picture_gets_one_size():
    assert capacities(60, 8253, known=True, skips=True) == [8320]
    assert len(capacities(60, 8253, known=False, skips=True)) > 1  # an answer may end at any time


def test_a_window_needs_room_beyond_the_last_token():
    assert cache_slots(20, 108, spare=0, known=True) == [128]
    assert cache_slots(20, 108, spare=17, known=True) == [256]


def test_a_ceiling_of_new_tokens_allocates_nothing():
    assert capacities(38, 30 + 40960, known=False)[0] == 128
