"""How a container is known, and what is said of a folder that Docker made."""

import pytest

from resnetctl import container


@pytest.mark.parametrize("inside", [True, False])
def test_the_owners_hint_is_given_inside_a_container_alone(inside, tmp_path, monkeypatch):
    (tmp_path / "mark").touch()
    monkeypatch.setattr(container, "_MARKS", (tmp_path / ("mark" if inside else "none"),))
    assert container.in_container() is inside
    assert ('--user "$(id -u):$(id -g)"' in (container.owner_hint(PermissionError()) or "")) is inside
    assert container.owner_hint(OSError("the disk is full")) is None
