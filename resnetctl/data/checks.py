"""Checks of an index that decode no image: counts, classes, labels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from resnetctl.data import imagenet
from resnetctl.data.index import Index
from resnetctl.data.sources.folder import image_files
from resnetctl.errors import some


class Check(NamedTuple):
    """One check: whether it passed, and in `detail` what was found."""

    name: str
    ok: bool
    detail: str


def counts(index: Index) -> Check:
    """Images per class, compared with the published numbers if this is ImageNet."""
    info = index.info
    counts = np.bincount(index.label, minlength=len(info.classes))
    fewest, most = int(counts.min()), int(counts.max())
    per_class = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    detail = f"{len(index):,} images, {per_class} per class"
    if imagenet.meant_to_be_imagenet(info.classes):
        problems = imagenet.differences(info.split, info.classes, counts)
    else:
        empty = [info.classes[i] for i in np.flatnonzero(counts == 0)]
        problems = [f"no images of {some(empty)}"] if empty else []
    if not problems:
        return Check(f"{info.split} counts", True, detail)
    if info.incomplete:
        return Check(f"{info.split} counts", True, f"{detail}; allowed by --allow-incomplete: {'; '.join(problems)}")
    return Check(f"{info.split} counts", False, "; ".join(problems))


def classes(index: Index) -> Check:
    """Classes are sorted and unique, and none comes from a stray hidden folder."""
    name, classes = f"{index.info.split} classes", index.info.classes
    if list(classes) != sorted(set(classes)):
        return Check(name, False, "not sorted, or not unique: labels are not positions in the sorted list")
    stray = [c for c in classes if c.startswith(".")]
    if stray:
        return Check(name, False, f"{some(stray)} is a hidden folder, not a class, and shifts the labels after it")
    return Check(name, True, f"{len(classes):,}, sorted")


def labels(index: Index) -> Iterator[Check]:
    """A sample's folder is its label's class, and so is the wnid that its file name starts with, if any."""
    split, classes = index.info.split, index.info.classes
    strangers = []
    for i in range(len(index)):
        folder, _, file = index.name(i).partition("/")
        wnid = imagenet.TRAIN_FILE.fullmatch(file)
        expected = classes[index.label[i]]
        if folder != expected or (wnid and imagenet.WNID.fullmatch(expected) and wnid[1] != expected):
            strangers.append(index.name(i))
    detail = f"{len(strangers):,} images are not labelled with the class of their folder: {some(strangers)}"
    yield Check(f"{split} labels", not strangers, detail if strangers else "each label is the class of its folder")
    if set(classes) <= set(imagenet.wnids()):
        yield from label_order(index)


def label_order(index: Index) -> Iterator[Check]:
    """ImageNet's val images have known labels, which reveal labels in a different order."""
    name, classes, table = f"{index.info.split} label order", index.info.classes, imagenet.val_labels()
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    known, wrong = 0, {}
    for i in range(len(index)):
        match = imagenet.VAL_FILE.fullmatch(index.name(i).rpartition("/")[2])
        if match and 0 < int(match[1]) <= len(table):
            known += 1
            number, label = int(match[1]), int(index.label[i])
            right = label_of.get(imagenet.wnids()[table[number - 1]], -1)
            if label != right:
                wrong[number] = label, right
    if known and not wrong:
        yield Check(name, True, f"{known:,} known labels are correct")
    if not wrong:
        return
    first = min(wrong)
    label, right = wrong[first]
    detail = f"{len(wrong):,} of {known:,} known labels are wrong: ILSVRC2012_val_{first:08d}.JPEG has {label}"
    detail += f" instead of {right}" if right >= 0 else ", but its class is not in this data set"
    ids = imagenet.ANCHOR_IDS
    if any(label - ids[n] in (-1, 0) for n, (label, _) in wrong.items() if n in ids):
        detail += (
            "; the devkit's ILSVRC2012_IDs were used as labels, but a label is the wnid's position in the sorted list: "
            "sort the val images again by wnid, or let resnetctl prepare read the archives and the devkit themselves"
        )
    yield Check(name, False, detail)


def not_in_the_index(indexes: dict[str, Index]) -> Iterator[Check]:
    """Image files added to the class folders since prepare."""
    first = next(iter(indexes.values()))
    if first.info.source != "folder":
        return
    known = {index.container_name(c) for index in indexes.values() for c in range(index.containers)}
    added = [path for path in image_files(first.root) if path not in known]
    detail = f"{len(added):,} images are not in the index: {some(added)}; run resnetctl prepare again"
    yield Check("files", not added, detail if added else f"{len(known):,}, all in the index")


def same_classes(indexes: dict[str, Index]) -> Check:
    """Train and val have the same classes, in the same order."""
    lists = {index.info.classes for index in indexes.values()}
    if len(lists) == 1:
        return Check("splits", True, f"{' and '.join(indexes)} have the same classes")
    return Check("splits", False, "train and val have different classes: run resnetctl prepare again")
