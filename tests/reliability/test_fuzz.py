"""Mutated checkpoint files: a clean error or a true load, never a crash, never more than twice the file in memory."""

import json
import random
import resource
import tracemalloc
from pathlib import Path

import pytest
import torch

from resnetctl.engine.trainer import Trainer
from resnetctl.errors import ResnetctlError
from resnetctl.recipe import Override, load_recipe
from resnetctl.runs.checkpoint import Checkpoint, load_commit, load_file, save_checkpoint
from resnetctl.runs.commits import commits
from resnetctl.runs.metadata import Evaluation
from tests.fixtures.checkpoints import metadata as metadata_of

NUMBERS = (0, 1, -1, 2**31, 2**63, 2**64, 10**30, 1e308, None, "", [], {}, True)


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("small", overrides=[Override("model.arch", "resnet18", "test")])


@pytest.fixture(scope="module")
def metadata(recipe):
    measured = Evaluation(step=4, epoch=1.0, top1=50.0, top5=100.0, loss=1.0, images=23)
    return metadata_of(5, steps=10, last_read=3, recipe=recipe, history=(measured,))


@pytest.fixture(scope="module")
def original(metadata, tmp_path_factory) -> bytes:
    """A checkpoint of every type of tensor, small enough to be loaded thousands of times."""
    folder = tmp_path_factory.mktemp("original")
    types = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    tensors = {f"model.layer{n}.weight": torch.ones(3, 4 + n).to(t) for n, t in enumerate(types)}
    tensors |= {"progress.loss_sum": torch.ones(1), "model.large": torch.ones(100_000)}
    return save_checkpoint(folder, Checkpoint(tensors, metadata)).path.read_bytes()


def mutate(data: bytes, choose: random.Random) -> bytes:
    """Bytes flipped, cut, repeated or moved, a header of another length, or values of the header replaced."""
    changed = bytearray(data)
    header = int.from_bytes(data[:8], "little")
    match choose.randrange(7):
        case 0:
            for _ in range(choose.randint(1, 8)):
                changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
        case 1:
            for _ in range(choose.randint(1, 4)):
                changed[choose.randrange(8 + header)] = choose.randrange(256)
        case 2:
            del changed[choose.randrange(len(changed)) :]
        case 3:
            at = choose.randrange(len(changed))
            changed[at:at] = changed[choose.randrange(len(changed)) :][: choose.randint(1, 1000)]
        case 4:
            changed[:8] = choose.choice([0, 1, header - 1, header + 1, 2**24, 2**32, 2**63, 2**64 - 1]).to_bytes(
                8, "little"
            )
        case _:
            return with_header(data, header, choose)
    return bytes(changed)


def with_header(data: bytes, length: int, choose: random.Random) -> bytes:
    document = json.loads(data[8 : 8 + length])
    if choose.random() < 0.5:
        inner = json.loads(document["__metadata__"]["resnetctl"])
        replace_one(inner, choose)
        document["__metadata__"]["resnetctl"] = json.dumps(inner)
    else:
        replace_one(document, choose)
    text = json.dumps(document).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def replace_one(node, choose: random.Random) -> None:
    """Somewhere in nested lists and dicts, put another value, or take one out."""
    while True:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        if not keys:
            return
        key = choose.choice(list(keys))
        if isinstance(node[key], dict | list) and node[key] and choose.random() < 0.8:
            node = node[key]
            continue
        if choose.random() < 0.2:
            del node[key]
        else:
            node[key] = choose.choice(NUMBERS)
        return


def fuzz(original: bytes, path: Path, times: int, seed: int) -> tuple[int, int]:
    """How many were loaded, and how many refused."""
    choose = random.Random(seed)
    loaded, messages = 0, []
    for _ in range(times):
        data = mutate(original, choose)
        path.write_bytes(data)
        tracemalloc.start()
        try:
            load_file(path)
            loaded += 1
        except ResnetctlError as error:
            messages.append(error.message)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < 2 * len(original) + (1 << 20)  # and what the interpreter needs for messages
    assert all(message and message.replace("\n", "").isprintable() for message in messages)
    return loaded, len(messages)


def test_five_hundred_mutated_checkpoints(original, tmp_path):
    loaded, refused = fuzz(original, tmp_path / "step-00000005.safetensors", 500, seed=1)
    assert refused > 250
    assert loaded > 10  # a flipped bit of a tensor in a file without a commit record cannot be seen


@pytest.mark.slow
def test_twenty_thousand_mutated_checkpoints(original, tmp_path):
    assert sum(fuzz(original, tmp_path / "step-00000005.safetensors", 20_000, seed=2)) == 20_000


def test_with_its_commit_record_no_mutation_is_loaded(original, metadata, tmp_path):
    tensors = load_file_of(original, tmp_path)
    commit = save_checkpoint(tmp_path, tensors)
    whole, choose = commit.path.read_bytes(), random.Random(3)
    for _ in range(200):
        data = mutate(whole, choose)
        commit.path.write_bytes(data)
        if data != whole:
            with pytest.raises(ResnetctlError):
                load_commit(commits(tmp_path)[0])


def load_file_of(data: bytes, folder: Path) -> Checkpoint:
    path = folder / "original.safetensors"
    path.write_bytes(data)
    return load_file(path)


def test_no_more_than_twice_the_file_in_memory(recipe, metadata, tmp_path):
    """Of the whole process, by the kernel's count of its resident pages."""
    trainer = Trainer(recipe, 2, torch.device("cpu"), torch.float32)
    path = save_checkpoint(tmp_path, Checkpoint(trainer.tensors(), metadata)).path
    size, before = path.stat().st_size, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    checkpoint = load_file(path)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert len(checkpoint.tensors) > 100
    assert most - before < 2 * size
