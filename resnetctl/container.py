"""Whether this process runs in a container, where folders are there only if they were handed in."""

from pathlib import Path

_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))  # Docker's; Podman's and Buildah's


def in_container() -> bool:
    """Whether Docker, Podman or Buildah started this process."""
    return any(mark.exists() for mark in _MARKS)


def owner_hint(error: OSError) -> str | None:
    """How to mend `error` where a folder handed to a container belongs to somebody else; None for another error."""
    if not isinstance(error, PermissionError) or not in_container():
        return None
    return (
        "make the folders before Docker does (mkdir -p data runs), and run the container as their owner: "
        'docker run --user "$(id -u):$(id -g)" …'
    )
