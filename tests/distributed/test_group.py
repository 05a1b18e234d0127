"""What ranks agree on, and how a lost one is noticed."""

import os

import pytest
import torch

from resnetctl.distributed.group import LostRankError, as_lost_rank, joined
from resnetctl.distributed.world import read_world
from tests.distributed import ranks


@pytest.mark.parametrize(
    "message", ["Connection closed by peer [127.0.0.1]:1", "[../gloo/x.cc] Timed out waiting 600000ms", "Broken pipe"]
)
def test_a_lost_rank_is_known_by_its_message(message):
    assert as_lost_rank(RuntimeError(message)).exit_code == 75


def test_other_errors_are_no_lost_ranks():
    assert as_lost_rank(RuntimeError("shape mismatch")) is None
    assert as_lost_rank(ValueError("Connection closed")) is None


def gather(rank: int, port: int, kept: str, results) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT=str(port))
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = kept
    with joined(read_world(os.environ)) as group:
        results.append((group.all_gather(rank), group.claim_error()))
        group.all_gather(None)


def test_ranks_that_are_started_again_meet_on_a_store_that_knows_those_before():
    """As under torchrun's c10d rendezvous on several nodes, where they would wait for ranks that are gone."""
    store = torch.distributed.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    context = torch.multiprocessing.get_context("spawn")
    results = context.Manager().list()
    for start in (1, 2):
        torch.multiprocessing.spawn(gather, (store.port, "True", results), nprocs=2)
        assert len(results) == 2 * start
    assert [gathered for gathered, _ in results] == [[0, 1]] * 4
    assert [sum(claimed for _, claimed in results[i : i + 2]) for i in (0, 2)] == [1, 1]


def join_over_no_interface(local_size: str) -> None:
    os.environ |= {"GLOO_SOCKET_IFNAME": "none0", "LOCAL_WORLD_SIZE": local_size}
    try:
        with joined(read_world(os.environ)):
            pass
    except LostRankError as error:
        print(error.message, "hint:", error.hint)


@pytest.mark.parametrize("local_size", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_on_several_nodes_an_address_that_leads_nowhere_is_told_with_the_cure(local_size):
    """As where a node's name leads to 127.0.1.1; on one machine that is no reason."""
    for told in ranks.results(join_over_no_interface, 2, local_size):
        assert "Unable to find address for: none0 hint: " in told
        assert ("GLOO_SOCKET_IFNAME=eth0" in told) == (local_size == 1)
