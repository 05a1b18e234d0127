import math

import pytest

from resnetctl.model.export_timm import crop_share


@pytest.mark.parametrize("crop", [64, 160, 176, 224])
def test_timm_computes_the_size_that_was_meant(crop):
    """Its rule: the shorter side becomes floor(crop / crop_pct)."""
    for resize in range(crop, 2 * crop):
        assert math.floor(crop / crop_share(crop, resize)) == resize
        assert crop_share(crop, resize) == pytest.approx(crop / resize, rel=0.01)


def test_there_are_sizes_at_which_the_quotient_is_rounded_down():
    assert any(math.floor(224 / (224 / resize)) != resize for resize in range(224, 1000))
