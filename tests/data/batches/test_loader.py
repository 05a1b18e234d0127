"""What a batch holds follows from its number alone, whoever fetches it and however often."""

import contextlib
import hashlib
import itertools
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import Dataset

from resnetctl.data.batches.augment import draw, draw_erased
from resnetctl.data.batches.batch import Batch
from resnetctl.data.batches.eval import EvalBatches, EvalView
from resnetctl.data.batches.loader import load
from resnetctl.data.batches.order import stream
from resnetctl.data.batches.policies import draw_operations
from resnetctl.data.batches.resolution import size_at
from resnetctl.data.batches.train import TrainBatches
from resnetctl.data.images.decode import centre, decode, resize
from resnetctl.data.images.operations import apply
from resnetctl.data.index import Index
from resnetctl.errors import DataError, ResnetctlError
from resnetctl.recipe import DataRecipe
from tests.fixtures.imagenet_archives import jpeg
from tests.fixtures.small_index import pictures, write_index
from tests.fixtures.views import eval_view, train_view
from tests.process import call, command

COUNT = 31


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """31 pictures of different sizes in 3 classes, one of them a PNG, one gray, one CMYK."""
    files = dict(itertools.islice(pictures(3, 11).items(), COUNT - 3))
    files |= {
        "class1/x.jpg": jpeg(90, 40, 30, format="PNG"),
        "class0/gray.jpg": jpeg(91, 40, 30, mode="L"),
        "class2/cmyk.jpg": jpeg(92, 40, 30, mode="CMYK"),
    }
    return write_index(tmp_path_factory.mktemp("whole"), files)


EVERYTHING = {
    "augment": "rand-augment",
    "color_jitter": (0.4, 0.4, 0.4, 0.1),
    "random_erase": 0.5,
    "repeated_augmentation": 3,
}
BAD = ("class0/003.jpg", "class1/000.jpg", "class2/004.jpg")


@pytest.fixture(scope="module")
def partly_bad(tmp_path_factory) -> Path:
    """20 pictures, three of which cannot be read: an empty one, a cut one, and a text."""
    files = pictures(4, 5)
    files |= {BAD[0]: b"", BAD[1]: files[BAD[1]][:-100], BAD[2]: b"<html>not found</html>"}
    return write_index(tmp_path_factory.mktemp("bad"), files)


@pytest.fixture
def all_bad(tmp_path) -> Path:
    return write_index(tmp_path, {f"class{c}/{i}.jpg": b"no picture" for c in range(2) for i in range(4)})


def digest(batches: list[Batch]) -> str:
    """Of all the bytes, and of how they lie in memory."""
    h = hashlib.sha256()
    for batch in batches:
        for tensor in batch:
            h.update(repr((tensor.dtype, tensor.shape, tensor.stride())).encode())
            h.update(tensor.contiguous().numpy().tobytes())
    return h.hexdigest()


def join(batches: list[Batch]) -> Batch:
    return Batch(*(torch.cat(part) for part in zip(*batches, strict=True)))


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# --- training ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("which", "more"), [("whole", {}), ("partly_bad", {}), ("partly_bad", EVERYTHING)])
@pytest.mark.filterwarnings("error::UserWarning")  # none of torch's about more workers than it would choose
def test_the_number_of_workers_changes_nothing(which, more, request):
    view = train_view(
        request.getfixturevalue(which),
        data={"train_size_start": 64, "train_size": 96, "train_size_ramp": (0.5, 1.0), **more},
        micro_batch=4,
    )
    first = digest(list(load(TrainBatches(view), range(3, 27), workers=0, pin=False)))
    for workers in (1, 2, 3):
        assert digest(list(load(TrainBatches(view), range(3, 27), workers=workers, pin=False))) == first


def test_a_batch_is_what_one_makes_of_it_by_hand(whole):
    view, index = train_view(whole), Index(whole)
    samples = stream(7, COUNT, 36, 48)  # step 3
    sample = samples.sample
    batch = TrainBatches(view)[3]
    assert batch.labels.tolist() == index.label[sample].tolist()
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    for n in range(12):
        picture = decode(index.read(int(sample[n])))
        size = np.array([picture.shape[1]]), np.array([picture.shape[2]])
        options = {"scale": view.data.crop_scale, "ratio": view.data.crop_ratio, "hflip": view.data.hflip}
        drawn = draw(7, samples.only(slice(n, n + 1)), *size, **options)
        top, left, h, w = drawn.box[0]
        crop = resize(picture[:, top : top + h, left : left + w], 32, 32, "bilinear")
        assert torch.equal(batch.images[n], crop.flip(2) if drawn.flip[0] else crop)
    assert batch.unreadable.tolist() == []


@pytest.mark.parametrize("augment", ["trivial-augment-wide", "auto-augment", "rand-augment"])
def test_a_crop_is_augmented_by_what_was_drawn_for_it(augment, whole):
    plain = train_view(whole, data={"interpolation": "bicubic"})
    view = train_view(whole, data={"interpolation": "bicubic", "augment": augment, "color_jitter": (0.4, 0, 0, 0)})
    crops, augmented, samples = TrainBatches(plain)[3], TrainBatches(view)[3], stream(7, COUNT, 36, 48)
    fill = (124, 116, 104) if augment == "rand-augment" else (0, 0, 0)
    chosen = draw_operations(view.data, 7, samples, 32)
    assert all(operations[-1].name == "brightness" for operations in chosen)
    assert len({operations[0] for operations in chosen}) > 5
    for crop, image, operations in zip(crops.images, augmented.images, chosen, strict=True):
        pixels = apply(crop.permute(1, 2, 0).contiguous().numpy(), operations, fill)
        assert torch.equal(image, torch.from_numpy(pixels.copy()).permute(2, 0, 1))
    assert augmented.images.is_contiguous(memory_format=torch.channels_last)


def test_what_is_erased_goes_with_the_batch(whole):
    assert TrainBatches(train_view(whole))[3].erased.shape == (0, 4)
    batch = TrainBatches(train_view(whole, data={"random_erase": 0.5}))[3]
    some = draw_erased(7, stream(7, COUNT, 36, 48), 32, 0.5)
    assert batch.erased.tolist() == some.tolist()
    assert 0 < (some[:, 2] > 0).sum() < 12
    assert torch.equal(batch.images, TrainBatches(train_view(whole))[3].images)  # the device erases


def test_repetitions_of_a_sample_look_otherwise(whole):
    batches = TrainBatches(train_view(whole, data={"repeated_augmentation": 3}))
    samples, batch = batches.samples(1), batches[1]
    assert samples.sample.tolist() == samples.sample[:4].tolist() * 3
    assert samples.repetition.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert batch.labels.tolist() == batch.labels[:4].tolist() * 3
    first, second, third = batch.images.split(4)
    for a, b in ((first, second), (first, third), (second, third)):
        assert all(not torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("more", [{}, EVERYTHING], ids=["crops", "everything"])
@pytest.mark.parametrize(
    ("world", "micro"), [(1, 12), (1, 1), (1, 5), (2, 30), (2, 10), (3, 20), (4, 15), (6, 2), (60, 1)]
)
def test_any_split_among_ranks_and_micro_batches_is_the_same_global_batch(world, micro, more, partly_bad):
    """60 of 20 samples: three epochs in one batch."""
    if 60 // world % micro:
        micro = 60 // world
    for step in (0, 4):
        expected = TrainBatches(train_view(partly_bad, data=more, train={"global_batch": 60}, micro_batch=60))[step]
        parts = []
        for rank in range(world):
            options = {"micro_batch": micro, "rank": rank, "world_size": world}
            view = train_view(partly_bad, data=more, train={"global_batch": 60}, **options)
            items = range(step * view.micro_batches, (step + 1) * view.micro_batches)
            parts += [TrainBatches(view)[item] for item in items]
        assert same(join(parts), expected)


def test_each_sample_once_an_epoch(whole):
    batches = TrainBatches(train_view(whole, train={"global_batch": COUNT}, micro_batch=COUNT))
    for step in range(3):
        epoch, sample, _ = batches.samples(step)
        assert set(epoch.tolist()) == {step}
        assert sorted(sample.tolist()) == list(range(COUNT))


def test_other_seeds_and_epochs_look_otherwise(whole):
    view = train_view(whole, train={"global_batch": COUNT}, micro_batch=COUNT)
    first, later, other = (
        TrainBatches(view)[0],
        TrainBatches(view)[1],
        TrainBatches(replace(view, train=replace(view.train, seed=8)))[0],
    )
    assert not torch.equal(first.images, later.images)
    assert not torch.equal(first.images, other.images)
    assert sorted(first.labels.tolist()) == sorted(later.labels.tolist())


def test_the_resolution_follows_the_epoch_in_which_a_step_begins(whole):
    view = train_view(
        whole, data={"train_size": 96, "train_size_start": 32, "train_size_ramp": (0.2, 0.8)}, micro_batch=6
    )  # 31 samples, 12 a step
    sizes = [TrainBatches(view)[2 * step + 1].images.shape[2] for step in range(12)]
    assert sizes == [32, 32, 32, 32, 32, 32, 64, 64, 64, 64, 64, 96]  # epochs 0 0 0 1 1 1 2 2 3 3 3 4
    assert [size_at(step, COUNT, view.data, view.train) for step in range(12)] == sizes


def test_sizes_that_the_index_does_not_know_change_nothing(tmp_path):
    files = pictures(2, 6)
    known, unknown = write_index(tmp_path / "a", files), write_index(tmp_path / "b", files, known_sizes=False)
    assert digest([TrainBatches(train_view(known))[i] for i in range(3)]) == digest(
        [TrainBatches(train_view(unknown))[i] for i in range(3)]
    )


def test_an_unreadable_sample_has_one_substitute_and_is_reported(partly_bad):
    index = Index(partly_bad)
    bad = {i for i in range(20) if index.name(i) in BAD}
    assert len(bad) == 3
    view = train_view(partly_bad, train={"global_batch": 20}, micro_batch=20)
    batch = TrainBatches(view)[1]
    sample = TrainBatches(view).samples(1).sample
    assert set(batch.unreadable.tolist()) == bad
    alone = train_view(partly_bad, train={"global_batch": 20}, micro_batch=1)
    for n in range(20):
        again = TrainBatches(alone)[20 + n]
        assert torch.equal(again.images[0], batch.images[n])
        assert again.labels[0] == batch.labels[n]
        assert (len(again.unreadable) > 0) == (int(sample[n]) in bad)
        if sample[n] in bad:  # the substitute is a whole picture: it is not black
            assert batch.images[n].float().std() > 1
        else:
            assert batch.labels[n] == index.label[sample[n]]


def test_substitutes_change_with_the_epoch(tmp_path):
    """Else a bad file would give its neighbour twice the weight."""
    path = write_index(tmp_path, pictures(8, 1) | {"class0/bad.jpg": b"no picture"})
    batches = TrainBatches(train_view(path, train={"global_batch": 1}, micro_batch=1))
    found = [batches[item] for item in range(9 * 20)]
    substitutes = [int(batch.labels) for batch in found if len(batch.unreadable)]
    assert len(substitutes) == 20
    assert len(set(substitutes)) > 4


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_unreadable_in_a_row_end_the_run_with_a_hint(workers, all_bad):
    view = train_view(all_bad, train={"global_batch": 4}, micro_batch=4)
    with pytest.raises(DataError, match="16 images in a row cannot be read") as caught:
        list(load(TrainBatches(view), range(2), workers=workers, pin=False))
    assert "not an image that can be read" in caught.value.message
    assert "resnetctl verify" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_container_that_is_gone_is_a_data_error(workers, tmp_path):
    files = pictures(1, 4)
    path = write_index(tmp_path, files)
    for name in files:
        (tmp_path / "train" / name).unlink()
    with pytest.raises(DataError, match="No such file") as caught:
        list(
            load(
                TrainBatches(train_view(path, train={"global_batch": 4}, micro_batch=4)),
                range(2),
                workers=workers,
                pin=False,
            )
        )
    assert caught.value.hint


def test_views_reach_spawned_workers(whole):
    batches = TrainBatches(train_view(whole))
    expected = batches[2]  # the index is open now, and must not be pickled
    data = pickle.dumps(batches)
    assert len(data) < 2000
    assert same(pickle.loads(data)[2], expected)


# --- evaluation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 4, 7, 31, 64])
def test_each_image_is_evaluated_once_in_any_world(batch, whole):
    expected = join([EvalBatches(eval_view(whole, batch=COUNT))[0]])
    assert expected.labels.tolist() == Index(whole).label.tolist()
    for world in (1, 2, 3, 5, 40):
        found = {}
        for rank in range(world):
            part = EvalBatches(eval_view(whole, batch=batch, rank=rank, world_size=world))
            for item in part.items():
                assert item not in found
                found[item] = part[item]
        assert same(join([found[item] for item in sorted(found)]), expected)


@given(st.integers(1, 40), st.integers(1, 9))
@settings(deadline=None, max_examples=60)
def test_the_items_of_all_ranks_are_all_the_batches(whole, batch, world):
    items = [EvalBatches(eval_view(whole, batch=batch, rank=r, world_size=world)).items() for r in range(world)]
    assert sorted(itertools.chain(*items)) == list(range(-(-COUNT // batch)))


def test_evaluation_sees_the_central_crop(whole):
    index, batch = Index(whole), EvalBatches(eval_view(whole))[1]
    for n in range(8):
        assert torch.equal(batch.images[n], centre(decode(index.read(8 + n)), 36, 32, "bilinear"))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("workers", [0, 2])
def test_what_evaluation_cannot_read_has_no_label(workers, partly_bad):
    index = Index(partly_bad)
    view = EvalBatches(eval_view(partly_bad))
    batch = join(list(load(view, view.items(), workers=workers, pin=False)))
    bad = [i for i in range(20) if index.name(i) in BAD]
    assert batch.unreadable.tolist() == bad
    assert (batch.labels == -1).nonzero().flatten().tolist() == bad
    assert not batch.images[bad].any()
    good = [i for i in range(20) if i not in bad]
    assert batch.labels[good].tolist() == index.label[good].tolist()


# --- workers ----------------------------------------------------------------------------------------------------


def workers() -> list[multiprocessing.process.BaseProcess]:
    return [p for p in multiprocessing.active_children() if p.is_alive()]


@pytest.mark.parametrize("busy", [False, True])
def test_a_killed_worker_is_an_error_where_a_batch_is_asked_for(busy, whole):
    """Not in the middle of what the main thread does meanwhile, which may be a save."""
    batches = load(TrainBatches(train_view(whole)), range(1000), workers=2, pin=False)
    next(batches)
    for process in workers():
        os.kill(process.pid, signal.SIGKILL)
    if busy:
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            sum(range(1000))
    began = time.monotonic()
    with pytest.raises(ResnetctlError, match="loader worker died") as caught:
        list(batches)
    assert time.monotonic() - began < 15
    assert "--workers" in caught.value.hint


class Broken(Dataset):
    """A bug of ours."""

    def __init__(self, kind: type[Exception]) -> None:
        self.kind = kind

    def __getitem__(self, item: int) -> Batch:
        raise self.kind("bug")


@pytest.mark.parametrize("kind", [RuntimeError, KeyError, ConnectionError])
def test_a_bug_in_a_worker_is_not_taken_for_its_death(kind):
    with pytest.raises(kind, match="bug") as caught:
        list(load(Broken(kind), range(2), workers=1, pin=False))
    assert not isinstance(caught.value, ResnetctlError)


def load_into_shm(index: str) -> None:
    view = EvalView(index=Path(index), batch=16, data=DataRecipe())
    try:
        for _ in load(EvalBatches(view), [0] * 10, workers=2, pin=False):
            pass
    except ResnetctlError as error:
        print(error.message, error.hint)


def test_a_full_dev_shm_is_named(whole):
    """As in a Docker container with its 64 MiB; in a mount namespace of its own, where that is allowed."""
    small = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"', "sh"]
    with contextlib.suppress(FileNotFoundError):
        if subprocess.run([*small, "true"], capture_output=True).returncode == 0:
            done = subprocess.run([*small, *command(load_into_shm, whole)], timeout=60, capture_output=True, text=True)
            assert done.stderr == ""
            assert "no shared memory for a batch" in done.stdout
            assert "--shm-size" in done.stdout
            return
    pytest.skip("no mount namespaces here")


class Hanging(Dataset):
    """Storage that does not answer."""

    def __getitem__(self, item: int) -> Batch:
        time.sleep(1000)
        raise AssertionError


def test_workers_that_bring_nothing_are_an_error():
    began = time.monotonic()
    with pytest.raises(ResnetctlError, match="no batch came from the loader workers for 1 seconds") as caught:
        list(load(Hanging(), range(9), workers=3, pin=False, timeout=1))
    assert "data.timeout_seconds" in caught.value.hint
    assert time.monotonic() - began < 8
    assert not workers()


def fail_with_workers(index: str) -> None:
    view = eval_view(Path(index), batch=1)
    batches = load(EvalBatches(view), range(31), workers=2, pin=False)
    next(batches)
    print("working")
    sys.last_batches = batches  # kept alive
    raise KeyError("a bug")


def test_the_program_ends_when_an_error_left_workers_behind(whole):
    """They ignore the SIGTERM with which multiprocessing would end them, and it waits for them."""
    done = call(fail_with_workers, whole, timeout=60)
    assert done.stdout == "working\n"
    assert done.returncode == 1
    assert "a bug" in done.stderr


def test_workers_leave_ctrl_c_and_sigterm_to_the_trainer(whole):
    batches = load(TrainBatches(train_view(whole)), range(12), workers=2, pin=False)
    first = next(batches)
    for process, number in itertools.product(workers(), (signal.SIGINT, signal.SIGTERM)):
        os.kill(process.pid, number)
    rest = list(batches)
    plain = TrainBatches(train_view(whole))
    assert digest([first, *rest]) == digest([plain[i] for i in range(12)])


def test_a_signal_while_workers_start_is_the_trainers_too(whole):
    heard, fork = [], os.fork
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))

    def fork_and_kill():
        pid = fork()
        if pid:
            for process, number in ((pid, signal.SIGTERM), (pid, signal.SIGINT), (os.getpid(), signal.SIGUSR1)):
                os.kill(process, number)
        return pid

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fork", fork_and_kill)
            batches = load(TrainBatches(train_view(whole)), range(6), workers=2, pin=False)
            first = next(batches)
        rest = list(batches)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert digest([first, *rest]) == digest(map(TrainBatches(train_view(whole)).__getitem__, range(6)))
    assert heard  # what came to this process only waited


def test_workers_go_when_nobody_listens_any_more(whole):
    batches = load(TrainBatches(train_view(whole)), range(1000), workers=2, pin=False)
    next(batches)
    assert len(workers()) == 2
    batches.close()
    assert not workers()


def test_the_signal_handlers_of_the_program_stay(whole):
    seen = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    try:
        mine = signal.getsignal(signal.SIGCHLD)
        assert len(list(load(TrainBatches(train_view(whole)), range(2), workers=1, pin=False))) == 2
        assert signal.getsignal(signal.SIGCHLD) is mine
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_loading_from_another_thread(whole):
    result = []

    def work() -> None:
        with contextlib.suppress(Exception):
            result.append(digest(list(load(TrainBatches(train_view(whole)), range(3), workers=1, pin=False))))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    plain = TrainBatches(train_view(whole))
    assert result == [digest([plain[i] for i in range(3)])]
