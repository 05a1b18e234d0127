import math

import pytest

from resnetctl.units import duration, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.7, "1 min 00 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 05 min"),
        (200_000, "2 d 07 h"),
        (math.inf, "-"),
        (math.nan, "-"),
    ],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (147 << 30, "147 GiB"), (5 << 50, "5120 TiB")]
)
def test_size(count, text):
    assert size(count) == text
