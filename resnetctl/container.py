"""Whether this process runs in a container, where folders and GPUs are there only if they were handed in."""

from pathlib import Path

_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))  # Docker's; Podman's and Buildah's


def in_container() -> bool:
    """Whether Docker, Podman or Buildah started this process."""
    return any(mark.exists() for mark in _MARKS)
