"""Batches: a function of the step, whole for any number of processes, labels never out of step."""

import numpy as np
import pytest

from emu3.errors import InputError
from emu3.mllm.modeling_emu3 import IGNORED_LABEL
from emu3.parallel.mesh import ALONE, Group, Mesh
from train.data.batches import Data, DataSettings, Source, localise, padded_length
from train.data.features import Feature, write_feature, write_list
from train.data.folders import claim_folder
from train.data.samples import Sample


def mesh(world: int, rank: int, shards: int) -> Mesh:
    sequence = Group("sequence", rank % shards, shards) if shards > 1 else ALONE
    return Mesh(Group("world", rank, world), sequence)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    names = []
    for i in range(7):
        codes = rng.integers(0, 600, (3, 4 + i % 2)).astype(np.int32)
        names.append(write_feature(folder, Feature(f"{i}", codes, f"caption {i}")))
    write_list(folder, "train", names)
    return folder


def data(source, builder, place, rows=2, passes=8, **settings) -> Data:
    options = DataSettings(rows=rows, max_length=64, pad_to_multiple=4, seed=3, **settings)
    return Data([Source(str(source), "train", "--data")], builder, options, passes, place)


def label_pairs(batch) -> set:
    """(row, position of the token before, label) of every label that counts."""
    counted = batch.labels != IGNORED_LABEL
    rows, columns = np.divmod(batch.places[counted], batch.ids.shape[1])
    positions = batch.positions[rows, columns]
    return set(zip(rows.tolist(), positions.tolist(), batch.labels[counted].tolist()))


def test_every_sample_comes_once_an_epoch_in_an_order_of_its_own(source, builder):
    batches = data(source, builder, mesh(1, 0, 1), rows=1, passes=14, null_prompt_prob=0.0)
    rows = [tuple(batches.batch(i).ids[0]) for i in range(14)]
    assert len(set(rows[:7])) == 7
    assert set(rows[:7]) == set(rows[7:])
    assert rows[:7] != rows[7:]


def test_a_batch_is_a_function_of_its_number(source, builder):
    first, again = (data(source, builder, mesh(1, 0, 1)) for _ in range(2))
    first.batch(0)
    for name in ("ids", "positions", "branches", "places", "labels"):
        np.testing.assert_array_equal(getattr(first.batch(5), name), getattr(again.batch(5), name))


def test_processes_share_the_rows_of_a_batch(source, builder):
    whole = data(source, builder, mesh(1, 0, 1), rows=4).batch(1)
    parts = [data(source, builder, mesh(2, rank, 1), rows=2).batch(1) for rank in range(2)]
    for rank, part in enumerate(parts):
        for row in range(2):
            length = (part.branches[row] >= 0).sum()
            expected = whole.ids[rank * 2 + row, :length]
            np.testing.assert_array_equal(part.ids[row, :length], expected)


@pytest.mark.parametrize("shards", [2, 4])
def test_chunks_of_a_sequence_hold_every_token_and_label_once(source, builder, shards):
    whole = data(source, builder, mesh(1, 0, 1)).batch(2)
    chunks = [data(source, builder, mesh(shards, k, shards)).batch(2) for k in range(shards)]
    ids = np.concatenate([chunk.ids for chunk in chunks], 1)
    np.testing.assert_array_equal(ids[:, : whole.ids.shape[1]], whole.ids)
    found = [label_pairs(chunk) for chunk in chunks]
    assert sum(map(len, found)) == whole.label_count
    assert set.union(*found) == label_pairs(whole)
    assert {len(chunk.labels) for chunk in chunks} == {len(chunks[0].labels)}


def test_captions_are_dropped_with_the_given_chance(source, builder):
    never = data(source, builder, mesh(1, 0, 1), null_prompt_prob=0.0).batch(0)
    always = data(source, builder, mesh(1, 0, 1), null_prompt_prob=1.0).batch(0)
    assert (always.branches >= 0).sum() < (never.branches >= 0).sum()
    assert always.label_count == never.label_count


def test_lengths_grow_to_the_multiple_and_the_shards(builder):
    ids = np.arange(9, dtype=np.int32)
    sample = Sample(ids, ids, ids, np.zeros_like(ids))
    settings = DataSettings(rows=1, max_length=64, pad_to_multiple=5)
    batch = localise([sample], settings, 0, mesh(3, 0, 3))
    assert batch.branches.shape == (1, 15) and batch.ids.shape == (1, 5)


def test_a_sample_that_is_too_long_leaves_an_empty_row(builder):
    settings = DataSettings(rows=1, max_length=64, pad_to_multiple=5)
    batch = localise([None], settings, 0, mesh(1, 0, 1))
    assert batch.label_count == 0 and (batch.branches < 0).all()


def test_held_back_samples_come_once_and_rows_beyond_them_are_empty(source, builder):
    options = DataSettings(rows=2, max_length=64, pad_to_multiple=4, null_prompt_prob=0.0)
    lists = [Source(str(source), "train", "--data")]
    batches = Data(lists, builder, options, 4, mesh(1, 0, 1), once=True)
    rows = [tuple(row) for i in range(4) for row in batches.batch(i).ids]
    assert len(set(rows[:7])) == 7
    assert (batches.batch(3).branches[1] < 0).all()


def test_a_sample_that_cannot_be_used_names_its_file(builder, tmp_path):
    write_feature(tmp_path, Feature("far", np.full((2, 2), 10**6, np.int32), "a caption"))
    write_list(tmp_path, "train", ["far.ckpt"])
    with pytest.raises(InputError, match=r"far\.ckpt: .*1000000.*change --data"):
        data(tmp_path, builder, mesh(1, 0, 1)).batch(0)


@pytest.mark.parametrize("shards", [1, 3, 8])
def test_no_row_is_longer_than_the_longest_allowed_one_padded(shards):
    settings = DataSettings(rows=1, max_length=425, pad_to_multiple=100)
    place = mesh(shards, 0, shards)
    longest = padded_length(settings.max_length, settings, place)
    for length in (1, 99, 401, 425):
        padded = padded_length(length, settings, place)
        assert length <= padded <= longest and padded % shards == 0


def test_a_weight_must_be_above_zero_and_finite(source):
    for weight in ("0", "inf", "nan", "1e999"):
        with pytest.raises(InputError, match=f"weight {weight} of"):
            Source(f"{source}:{weight}", "train", "--data")
    assert Source(f"{source}:2.5", "train", "--data").weight == 2.5


def encoded(folder, codebook):
    """A feature folder of one sample that says which codebook made its codes, or nothing."""
    name = write_feature(folder, Feature("a", np.ones((2, 2), np.int32), "caption"))
    write_list(folder, "train", [name])
    if codebook:
        claim_folder(folder, {"codebook_sha256": codebook}, "--data")
    return str(folder)


def mixed(builder, *folders):
    sources = [Source(folder, "train", "--data") for folder in folders]
    return Data(sources, builder, DataSettings(rows=1, max_length=64), 2, mesh(1, 0, 1))


def test_codes_of_two_vision_tokenizers_are_never_mixed(tmp_path, builder):
    folders = [encoded(tmp_path / name, name) for name in ("one", "two")]
    with pytest.raises(InputError, match=r"one/encoding\.json and .*two/encoding\.json differ"):
        mixed(builder, *folders)


def test_folders_of_one_tokenizer_or_that_do_not_say_are_mixed(tmp_path, builder):
    folders = [encoded(tmp_path / name, code) for name, code in (("a", "x"), ("b", ""), ("c", "x"))]
    assert len(mixed(builder, *folders).sources) == 3
