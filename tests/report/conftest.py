import numpy as np
import pytest

from resnetctl.data.dataset import load_dataset
from resnetctl.data.prepare import prepare
from resnetctl.report.contents import Contents, Gallery, RunPart
from resnetctl.runs.summary import summarise
from resnetctl.suites.guesses import Guesses
from resnetctl.suites.outcome import Outcome
from resnetctl.suites.sheet import Line, Tile
from tests.fixtures.imagenet_archives import jpeg
from tests.fixtures.runs import make_run, recipe

ODD = "<b>[/]&\"'"
"""A name as people have them who want to see what happens."""


@pytest.fixture(scope="session")
def contents(tmp_path_factory) -> Contents:
    """Two runs on ten classes of photos, one of them called ODD, and what the network sees."""
    root = tmp_path_factory.mktemp("contents")
    for split, each in (("train", 1), ("val", 8)):
        for k in range(10):
            folder = root / "data" / split / (ODD.replace("/", "") if k == 3 else f"class {k}")
            folder.mkdir(parents=True)
            for n in range(each):
                (folder / f"{n}.jpg").write_bytes(jpeg(10 * k + n, 300, 400))
    prepare(root / "data")
    val = load_dataset(root / "data").val()
    first, second = make_run(root / "runs", "first"), make_run(root / "runs", "second", of=recipe(optimizer__lr=0.05))
    parts = []
    for seed, run in enumerate((first, second)):
        generator = np.random.default_rng(seed)
        truth = val.label.astype(np.int64)
        labels = np.stack([generator.permutation(10)[:5] for _ in truth])
        labels[: 40 + seed, 0] = truth[: 40 + seed]
        labels[79] = -1  # it could not be read
        probabilities = np.sort(generator.dirichlet(np.full(5, 0.5), len(truth)).astype(np.float32))[:, ::-1].copy()
        guesses = Guesses(truth=truth, labels=labels, probabilities=probabilities)
        outcome = Outcome(
            model=f"{run.name}, step 30",
            suite="val",
            images=80,
            correct1=int(guesses.correct.sum()),
            correct5=int(guesses.hits.any(1).sum()),
            loss=1.25,
            index=val,
            guesses=guesses,
            caveats=(f"left out: {ODD}",),
        )
        parts.append(RunPart(summary=summarise(run), outcome=outcome))
    tiles = tuple(
        Tile(np.full((64, 64, 3), 9 * n, np.uint8), f"{n} {ODD}", (Line(f"63 %  {ODD}", 0.63),)) for n in range(14)
    )
    gallery = Gallery(title="step 1, in epoch 1, 64 px", text="Mixup.", tiles=(*tiles, Tile(None, "gone", ())))
    return Contents(runs=tuple(parts), seen=(gallery,))
