"""What ranks learn of each other: a call later without waiting, or now."""

import json
import os
from datetime import timedelta

from resnetctl.distributed.agreement import Agreement
from resnetctl.distributed.group import ALONE, joined
from resnetctl.distributed.world import read_world
from tests.distributed import ranks


def test_alone_all_is_known_at_once():
    agreement = Agreement(ALONE)
    assert agreement.later([3, 0]) == [3, 0]
    assert agreement.now([0, 1]) == [0, 1]


def agree() -> None:
    with joined(read_world(os.environ)) as group:
        agreement, second = Agreement(group), group.rank == 1
        learned = [agreement.later([5 if second else 0, group.rank])]
        learned.append(agreement.later([0, 0]))
        learned.append(agreement.later([7 if second else 0, 0]))
        learned.append(agreement.now([0, 9 if second else 0]))
        learned.append(agreement.later([0, 0]))
        learned.append(agreement.now([0, 0]))
        print(json.dumps(learned))


def test_all_learn_the_same_a_call_later_and_nothing_is_lost():
    for output in ranks.results(agree, 2):
        assert json.loads(output) == [[0, 0], [5, 1], [0, 0], [7, 9], [0, 0], [0, 0]]


def go_ahead() -> None:
    """The second rank makes its first call only once the first one has come out of its own."""
    with joined(read_world(os.environ)) as group:
        agreement = Agreement(group)
        if group.rank == 1:
            group._store.wait(["ahead"], timedelta(seconds=60))
        agreement.later([group.rank])
        if group.rank == 0:
            group._store.set("ahead", "")
        print(agreement.later([0]))


def test_nobody_waits_for_the_slowest():
    assert ranks.results(go_ahead, 2) == ["[1]\n"] * 2
