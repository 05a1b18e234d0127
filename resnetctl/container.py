"""Detects containers, which have only the folders mounted into them."""

from pathlib import Path

_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))  # Docker's; Podman's and Buildah's


def in_container() -> bool:
    """Whether Docker, Podman or Buildah started this process."""
    return any(mark.exists() for mark in _MARKS)


def owner_hint(error: OSError) -> str | None:
    """The hint for `error` if a folder mounted into a container has another owner; None for other errors."""
    if not isinstance(error, PermissionError) or not in_container():
        return None
    return (
        "create the folders before Docker does (mkdir -p data runs), and run the container as their owner: "
        'docker run --user "$(id -u):$(id -g)" …'
    )
