"""The model card of an exported model: training data, recipe, results and limits."""

from __future__ import annotations

import re

from resnetctl.data import imagenet
from resnetctl.errors import printable
from resnetctl.model.description import ModelDescription
from resnetctl.recipe import Recipe, effective_lr, recipe_to_toml
from resnetctl.runs.metadata import Metadata
from resnetctl.suites.statistics import wilson_interval

_MOST_CLASSES = 50
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&])")


def model_card(description: ModelDescription, metadata: Metadata | None, folder: str) -> str:
    """Markdown for the README.md of `folder`, with the header that the Hugging Face Hub reads."""
    d = description
    # of a weights file only the 1,000 outputs are known
    known = metadata is not None or d.measured is not None
    data = "imagenet-1k" if known and d.classes == imagenet.wnids() else None
    head = ["---", "tags:", "- image-classification", "- timm", "- resnetctl", "library_name: timm"]
    head += ["pipeline_tag: image-classification"]
    head += ["datasets:", f"- {data}"] if data else []
    parts = [
        "\n".join([*head, "---"]),
        f"# {d.arch}, {_plain(d.source)}",
        f"A {d.network} that tells {len(d.classes):,} classes apart, written by {_plain(d.written_by)}."
        + (" The weights are the moving average of the trained ones." if d.moving_average else ""),
        _usage(d, folder),
        _data(d, metadata),
        _results(d),
        _limits(d),
    ]
    if metadata is not None:
        parts.append(_recipe(metadata.recipe))
    return "\n\n".join(parts) + "\n"


def _plain(text: str) -> str:
    """`text` escaped for Markdown and HTML."""
    return _SPECIAL.sub(r"\\\1", printable(text))


def _usage(d: ModelDescription, folder: str) -> str:
    return f"""## Usage

```python
import timm
import torch
from PIL import Image

model = timm.create_model({"local-dir:" + folder!a}, pretrained=True).eval()  # on the Hub: "hf-hub:USER/NAME"
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model), is_training=False)
with torch.inference_mode():
    probabilities = model(transform(Image.open("image.jpg").convert("RGB"))[None]).softmax(1)[0]
for p, label in zip(*probabilities.topk({min(5, len(d.classes))})):
    print(f"{{p:.1%}}", model.pretrained_cfg["label_names"][label])
```

An image's shorter side is resized to {d.preprocessing.resize} pixels ({d.preprocessing.interpolation}, antialiased), \
the central {d.preprocessing.crop} × {d.preprocessing.crop} is cropped, scaled to [0, 1], and normalised by the mean \
{_numbers(d.preprocessing.mean)} and the deviation {_numbers(d.preprocessing.std)}."""


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{v:g}" for v in values) + ")"


def _data(d: ModelDescription, metadata: Metadata | None) -> str:
    if d.classes == imagenet.wnids():
        what = "The 1,000 classes of ImageNet-1k (ILSVRC2012), in the order of the sorted wnids."
    elif len(d.classes) <= _MOST_CLASSES:
        what = "\n".join(
            f"{n}. {_plain(c)}" + (f": {_plain(name)}" if name != c else "")
            for n, (c, name) in enumerate(zip(d.classes, d.class_names, strict=True))
        )
    else:
        what = f"{len(d.classes):,} classes, named by `label_names` in config.json."
    if metadata is None:
        return f"## Data\n\n{what}"
    trained = f"Trained on {metadata.data.images:,} images, up to epoch {metadata.epoch:.4g}."
    if metadata.recipe.model.weights != "none":
        trained += f" It started from the weights {_plain(metadata.recipe.model.weights)}."
    return f"## Data\n\n{trained}\n\n{what}"


def _results(d: ModelDescription) -> str:
    if d.measured is None:
        return "## Results\n\nThese weights were not evaluated in training; `resnetctl eval` does that."
    lines = ["| measure | % | 95 % interval |", "|---|---|---|"]
    for name, value in (("top-1", d.measured.top1), ("top-5", d.measured.top5)):
        if value is not None:
            low, high = wilson_interval(round(value / 100 * d.measured.images), d.measured.images)
            lines.append(f"| {name} | {value:.2f} | {low:.2f} to {high:.2f} |")
    return f"## Results\n\nOn {d.measured.images:,} images not used in training:\n\n" + "\n".join(lines)


def _limits(d: ModelDescription) -> str:
    return f"""## Limits

- Every image is assigned one of these classes, even if it shows none of them.
- Only the centre of an image is used, at {d.preprocessing.crop} × {d.preprocessing.crop} pixels, oriented as stored: \
applying the EXIF orientation is up to the caller.
- The results above hold for images like those of the data set. The probabilities are not calibrated: \
`resnetctl eval --details` measures by how much."""


def _recipe(recipe: Recipe) -> str:
    t, o = recipe.train, recipe.optimizer
    published = f" Its source: {_plain(recipe.published)}." if recipe.published else ""
    return f"""## Recipe

`{recipe.name}`: {t.epochs:g} epochs, a global batch of {t.global_batch:,}, {o.name} with a peak rate of \
{effective_lr(recipe):g} and a weight decay of {o.weight_decay:g}.{published} Every value:

```toml
{recipe_to_toml(recipe).rstrip()}
```"""
