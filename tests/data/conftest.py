"""Data sets that many tests read and none changes."""

from pathlib import Path

import pytest

from tests.fixtures.holdings import Holding


@pytest.fixture(scope="session")
def held() -> Holding:
    return Holding()


@pytest.fixture(scope="session")
def official_root(held: Holding, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return held.official(tmp_path_factory.mktemp("official"))
