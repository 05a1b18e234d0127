from collections import Counter

import numpy as np

from resnetctl.data import imagenet


def test_the_table_of_classes() -> None:
    wnids = imagenet.wnids()
    assert len(wnids) == 1000
    assert list(wnids) == sorted(set(wnids))
    assert all(imagenet.WNID.fullmatch(wnid) for wnid in wnids)
    names = dict(zip(wnids, imagenet.names_of(wnids), strict=True))
    # labels that everyone's pretrained model has
    for label, wnid, name in (
        (0, "n01440764", "tench"),
        (65, "n01751748", "sea snake"),
        (207, "n02099601", "golden retriever"),
        (999, "n15075141", "toilet tissue"),
    ):
        assert wnids[label] == wnid
        assert names[wnid] == name


def test_names_that_repeat_stay_two_classes() -> None:
    wnids = imagenet.wnids()
    repeated = {n for n, count in Counter(imagenet.names_of(wnids)).items() if count > 1}
    assert repeated == {"crane", "maillot"}
    assert imagenet.names_of(("n02012849", "n03126707")) == ("crane", "crane")


def test_names_are_those_of_torchvision_but_for_its_own_words() -> None:
    from torchvision.models._meta import _IMAGENET_CATEGORIES as theirs

    ours = imagenet.names_of(imagenet.wnids())
    same = sum(a == b for a, b in zip(ours, theirs, strict=True))
    assert same >= 970  # it renamed a few, such as `crane bird`


def test_differences_from_the_published_set() -> None:
    wnids = imagenet.wnids()
    whole = np.full(1000, 1281)
    whole[:167] += 1
    assert whole.sum() == imagenet.TRAIN_IMAGES
    assert imagenet.differences("train", wnids, whole) == []
    assert imagenet.differences("val", wnids, np.full(1000, 50)) == []
    whole[3] = 731
    first, second = imagenet.differences("train", wnids, whole)
    assert first == "train has 1,280,616 of 1,281,167 images"
    assert second == "not 732 to 1300 images in n01491361 (731)"
    few = np.full(1000, 50)
    few[[5, 6]] = 49, 51
    assert imagenet.differences("val", wnids, few) == ["not 50 images in n01496331 (49), n01498041 (51)"]
    lost = imagenet.differences("val", wnids[1:], np.full(999, 50))
    assert lost == ["val lacks n01440764", "val has 49,950 of 50,000 images"]
    swapped = imagenet.differences("val", ("dog", *wnids[1:]), np.full(1000, 50))
    assert swapped == ["val lacks n01440764", "val has dog, not an ImageNet class"]


def test_what_is_meant_to_be_imagenet() -> None:
    wnids = imagenet.wnids()
    assert imagenet.meant_to_be_imagenet(wnids)
    assert imagenet.meant_to_be_imagenet(wnids[1:])
    assert imagenet.meant_to_be_imagenet((".ipynb_checkpoints", *wnids))
    assert not imagenet.meant_to_be_imagenet(wnids[:100])
    assert not imagenet.meant_to_be_imagenet(tuple(f"class{i}" for i in range(1000)))
