"""The order of samples: published numbers of the generator, pinned numbers of ours, and each sample once an epoch."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from resnetctl.data.batches.order import (
    AUGMENT,
    ERASE,
    ORDER,
    SUBSTITUTE,
    Samples,
    epoch_end,
    hashes,
    key,
    permutation,
    sequence,
    splitmix64,
    step_samples,
    stream,
    total_steps,
    uniforms,
)

GAMMA = np.uint64(0x9E3779B97F4A7C15)
seeds = st.integers(-(1 << 63), (1 << 64) - 1)


def once(epoch, index):
    """Those samples of an epoch, for the first time in it."""
    return Samples(np.full(len(index), epoch), np.asarray(index), np.zeros(len(index), np.int64))


@pytest.mark.parametrize(
    ("seed", "published"),
    [
        # rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
        (
            1234567,
            [
                6457827717110365317,
                3203168211198807973,
                9817491932198370423,
                4593380528125082431,
                16408922859458223821,
            ],
        ),
        # the initial state of xoshiro256 from the seed 0, in many libraries' tests
        (0, [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]),
    ],
)
def test_splitmix64_gives_the_published_numbers(seed, published):
    states = np.uint64(seed) + np.arange(1, len(published) + 1, dtype=np.uint64) * GAMMA
    assert splitmix64(states).tolist() == published


def test_our_numbers_never_change():
    """Else a resumed run would go on with other samples than it began with."""
    assert [key(0), key(0, 1), key(0, 1, 2), key(-1), key(42, 3, 5)] == [
        16294208416658607535,
        627405149472732430,
        6768782832058643234,
        16490336266968443936,
        12302067199568664095,
    ]
    assert hashes(0, ORDER, 0, np.arange(3)).tolist() == [
        15114123258453576503,
        4672125198739041305,
        15771947744729278158,
    ]
    assert hashes(7, AUGMENT, 3, np.arange(2), repetition=2).tolist() == [0xD18FD27318873F15, 0xD21DEDA16E0CB24B]
    assert permutation(0, 0, 10).tolist() == [6, 3, 1, 5, 4, 0, 8, 2, 7, 9]
    assert permutation(0, 1, 10).tolist() == [5, 4, 1, 7, 8, 9, 3, 6, 2, 0]
    assert permutation(2**40, 2**33, 10).tolist() == [0, 1, 3, 4, 6, 2, 7, 9, 5, 8]
    assert uniforms(0, AUGMENT, once(0, [0, 1, 1_281_166]), 2).tolist() == [
        [0.19820744312951932, 0.14298176474093183, 0.5520936022425587],
        [0.08822328314704464, 0.604044585705552, 0.5617735216998213],
    ]


def test_the_first_output_of_a_key_is_that_of_the_generator():
    assert key(1234567) == 6457827717110365317


@given(seeds, st.integers(0, 63))
def test_every_bit_of_seed_and_word_counts(seed, bit):
    assert key(seed, 5) != key(seed ^ (1 << bit), 5)
    assert key(seed, 5) != key(seed, 5 ^ (1 << bit))
    assert hashes(seed, ORDER, 3, np.arange(2)).tolist() != hashes(seed, ORDER, 3 ^ (1 << bit), np.arange(2)).tolist()


@given(seeds, st.integers(0, 2**40), st.integers(1, 300))
@settings(deadline=None)
def test_an_epoch_is_a_permutation(seed, epoch, count):
    assert sorted(permutation(seed, epoch, count).tolist()) == list(range(count))


def test_epochs_seeds_and_uses_differ():
    orders = [permutation(s, e, 1000).tolist() for s, e in itertools.product((0, 1, 2**32, 2**32 + 1), (0, 1, 2**32))]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    first = [hashes(0, use, 0, np.arange(4)).tolist() for use in (ORDER, AUGMENT, SUBSTITUTE)]
    assert all(a != b for a, b in itertools.combinations(first, 2))


@given(seeds, st.integers(0, 63))
def test_every_bit_counts_for_a_repetition_too(seed, bit):
    flip, index = 1 << bit, np.arange(2)
    first = hashes(seed, AUGMENT, 3, index, 2).tolist()
    assert first != hashes(seed ^ flip, AUGMENT, 3, index, 2).tolist()
    assert first != hashes(seed, AUGMENT, 3 ^ flip, index, 2).tolist()
    assert first != hashes(seed, ERASE, 3, index, 2).tolist()
    assert first != hashes(seed, AUGMENT, 3, index, 2 ^ flip).tolist()


@pytest.mark.parametrize(("start", "stop", "epochs"), [(20, 25, 1), (20, 29, 1), (20, 30, 1), (25, 35, 2), (9, 41, 5)])
def test_only_the_epochs_of_a_batch_are_put_in_order(start, stop, epochs):
    """Each takes 0.2 seconds for 1.28 million."""
    permutation.cache_clear()
    stream(3, 10, start, stop)
    assert permutation.cache_info().misses == epochs


def test_an_order_cannot_be_changed_by_who_reads_it():
    with pytest.raises(ValueError, match="read-only"):
        permutation(0, 0, 10)[0] = 3


def test_each_place_is_equally_likely():
    """The place of sample 3 over 5,000 epochs of 10 samples, and which sample follows it."""
    orders = np.stack([permutation(11, e, 10) for e in range(5000)])
    place = (orders == 3).argmax(1)
    assert stats.chisquare(np.bincount(place, minlength=10)).pvalue > 0.001
    after = orders[np.arange(5000), (place + 1) % 10]
    assert stats.chisquare(np.delete(np.bincount(after, minlength=10), 3)).pvalue > 0.001


def test_a_sample_draws_the_same_alone_and_among_other_epochs_and_repetitions():
    mixed = Samples(np.array([0, 0, 1, 1, 0, 1]), np.array([3, 4, 3, 4, 3, 3]), np.array([0, 1, 0, 1, 2, 1]))
    together = uniforms(1, AUGMENT, mixed, 3)
    alone = [uniforms(1, AUGMENT, mixed.only(slice(n, n + 1)), 3) for n in range(6)]
    assert together.tolist() == np.concatenate(alone, axis=1).tolist()
    assert len(set(together[0].tolist())) == 6


def test_uniforms_are_uniform_and_uncorrelated():
    u = uniforms(5, AUGMENT, once(2, np.arange(20_000)), 4)
    assert u.shape == (4, 20_000)
    assert 0 <= u.min() < 0.001
    assert 0.999 < u.max() < 1
    for row in u:
        assert stats.kstest(row, "uniform").pvalue > 0.001
        assert abs(np.corrcoef(row[:-1], row[1:])[0, 1]) < 0.025  # neighbouring samples
    for a, b in itertools.combinations(u, 2):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.025
    assert abs(np.corrcoef(u[0], uniforms(5, AUGMENT, once(3, np.arange(20_000)), 1)[0])[0, 1]) < 0.025  # epochs
    again = once(2, np.arange(20_000))._replace(repetition=np.ones(20_000, np.int64))
    assert abs(np.corrcoef(u[0], uniforms(5, AUGMENT, again, 1)[0])[0, 1]) < 0.025  # repetitions


def test_a_draw_does_not_depend_on_how_many_there_are():
    few, many = (uniforms(1, AUGMENT, once(0, np.arange(50)), draws) for draws in (2, 23))
    assert (many[:2] == few).all()
    assert (uniforms(1, AUGMENT, once(0, [7]), 23)[:, 0] == many[:, 7]).all()


@given(
    seeds,
    st.integers(1, 40),
    st.lists(st.integers(1, 90), min_size=1, max_size=8),
    st.integers(0, 500),
    st.integers(1, 5),
)
@settings(deadline=None)
def test_the_stream_is_the_same_however_it_is_cut(seed, count, parts, start, repetitions):
    ends = list(itertools.accumulate(parts, initial=start))
    whole = stream(seed, count, start, ends[-1], repetitions)
    pieces = [stream(seed, count, a, b, repetitions) for a, b in itertools.pairwise(ends)]
    for column in range(3):
        assert np.concatenate([p[column] for p in pieces]).tolist() == whole[column].tolist()


@given(st.integers(1, 97), st.integers(1, 150), st.integers(1, 5))
@settings(deadline=None)
def test_each_sample_is_seen_once_an_epoch(count, batch, epochs):
    """For odd counts, batches that cross epochs, and data sets smaller than a batch."""
    steps = total_steps(epochs, count, batch)
    seen = [stream(3, count, s * batch, (s + 1) * batch) for s in range(steps)]
    assert all(len(epoch) == len(sample) == batch for epoch, sample, _ in seen)
    assert not any(repetition.any() for _, _, repetition in seen)
    pairs = [(int(e), int(s)) for epoch, sample, _ in seen for e, s in zip(epoch, sample, strict=True)]
    assert len(set(pairs)) == len(pairs)
    left_out = set(itertools.product(range(epochs), range(count))) - set(pairs)
    assert len(left_out) == epochs * count - steps * batch < batch
    last = sorted(itertools.product(range(epochs), range(count)))[-count:]
    if len(left_out) <= count:
        assert left_out <= set(last)


@given(st.integers(1, 500), st.integers(1, 700), st.integers(0, 20))
def test_an_epoch_ends_with_the_step_that_holds_its_last_sample(count, batch, epoch):
    end = epoch_end(epoch, count, batch)
    last_position = (epoch + 1) * count - 1
    assert (end - 1) * batch <= last_position < end * batch


def test_the_steps_of_imagenet():
    assert total_steps(16, 1_281_167, 1024) == 20_018
    assert total_steps(90, 1_281_167, 256) == 450_410
    assert [epoch_end(e, 1_281_167, 256) for e in (0, 1, 89)] == [5005, 10_010, 450_411]
    assert total_steps(1, 63, 64) == 0


def triples(samples):
    return list(zip(*(column.tolist() for column in samples), strict=True))


@given(st.integers(1, 60), st.integers(1, 5), st.integers(0, 3))
@settings(deadline=None)
def test_an_epoch_of_repeated_augmentation_is_torchvisions(count, repetitions, epoch):
    """As many draws as samples, the first ones of the permutation, each so often in a row."""
    order = permutation(3, epoch, count).tolist()
    indices = [i for i in order for _ in range(repetitions)]  # RASampler: repeat_interleave
    drawn = stream(3, count, epoch * count, (epoch + 1) * count, repetitions)
    assert drawn.sample.tolist() == indices[:count]
    assert set(drawn.epoch.tolist()) == {epoch}
    assert len(set(triples(drawn))) == count  # each repetition is another one


def test_a_batch_of_repeated_augmentation_is_timms_on_several_ranks():
    """The samples that timm's ranks read in the same step, whatever the permutation is."""
    timm = pytest.importorskip("timm.data.distributed_sampler")
    count, ranks, share, repetitions = 24_000, 4, 32, 3
    samplers = [timm.RepeatAugSampler(range(count), ranks, rank, False, repetitions) for rank in range(ranks)]
    reads = [list(sampler) for sampler in samplers]  # in the order 0, 1, 2, …
    place = np.empty(count, np.int64)
    place[permutation(0, 0, count)] = np.arange(count)
    for step in (0, 1, 77, 180):
        ours = step_samples(0, count, step, ranks * share, slice(0, ranks * share), repetitions)
        theirs = [i for r in reads for i in r[step * share : (step + 1) * share]]
        assert sorted(place[ours.sample].tolist()) == sorted(theirs)


@given(seeds, st.integers(1, 300), st.integers(0, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 12))
@settings(deadline=None)
def test_a_batch_is_its_positions_of_the_stream_however_it_is_split(seed, count, step, repetitions, parts, each):
    size = parts * each
    cuts = [step_samples(seed, count, step, size, slice(n * each, (n + 1) * each), repetitions) for n in range(parts)]
    whole = step_samples(seed, count, step, size, slice(0, size), repetitions)
    assert [t for cut in cuts for t in triples(cut)] == triples(whole)
    assert sorted(triples(whole)) == sorted(triples(stream(seed, count, step * size, (step + 1) * size, repetitions)))
    if repetitions == 1:
        assert triples(whole) == triples(stream(seed, count, step * size, (step + 1) * size))


@pytest.mark.parametrize("repetitions", [2, 3, 4])
@pytest.mark.parametrize("step", [0, 1, 7, 15])  # 15: two epochs
def test_the_views_of_a_sample_lie_apart(repetitions, step):
    size = 64
    for part in range(repetitions):
        share = slice(part * size // 4, (part + 1) * size // 4)
        seen = step_samples(1, 1000, step, size, share, repetitions)
        assert len(set(zip(seen.epoch.tolist(), seen.sample.tolist(), strict=True))) == size // 4
    whole = step_samples(1, 1000, step, size, slice(0, size), repetitions)
    neighbours = (whole.sample == np.roll(whole.sample, 1)) & (whole.epoch == np.roll(whole.epoch, 1))
    assert not neighbours.any()


def test_a_sequence_starts_anew_and_never_changes():
    one = list(itertools.islice(sequence(7, 8, 3, 1), 20_000))
    assert one[:50] == list(itertools.islice(sequence(7, 8, 3, 1), 50))
    assert one[:3] == [0.5270601784446677, 0.14446433251466317, 0.9618564250058709]
    assert stats.kstest(one, "uniform").pvalue > 0.001
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.025
    assert one[0] not in {next(sequence(*words)) for words in ((8, 8, 3, 1), (7, 7, 3, 1), (7, 8, 4, 1), (7, 8, 3, 0))}
