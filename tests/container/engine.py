"""Builds and runs the Dockerfile without a Docker engine: buildah, on a stand-in for the PyTorch image.

The stand-in is Debian with its Python, and torch and torchvision from the package registry. Everything lies in one
folder: about 13 GB, most of them torch.
"""

from __future__ import annotations

import json
import ssl
import subprocess
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

DEBIAN, PYTHON = "bookworm", "3.11"
BASE, IMAGE = "localhost/stand-in", "localhost/resnetctl"
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Engine:
    """Images and containers in `folder`."""

    folder: Path

    def buildah(self, command: str, *args: str | Path) -> str:
        """What `buildah COMMAND ARGS` prints to stdout."""
        return _stdout(*self._line(command), *args).strip()

    def _line(self, *command: str) -> list[str]:
        storage, state = self.folder / "storage", self.folder / "state"
        return ["buildah", "--root", str(storage), "--runroot", str(state), "--storage-driver", "overlay", *command]

    def make_base(self, torch: Sequence[str]) -> None:
        """The image BASE, with what pip makes of the requirements `torch`; nothing where it is there already."""
        if BASE in self.buildah("images", "--format", "{{.Name}}").split():
            return
        container = self.buildah("from", "scratch")
        root = Path(self.buildah("mount", container))
        packages = "ca-certificates,python3,python3-pip,python-is-python3"
        _stdout("debootstrap", "--variant=minbase", f"--include={packages}", DEBIAN, root)
        # this machine's pip, so that its configuration serves
        target = root / f"usr/local/lib/python{PYTHON}/dist-packages"
        options = ["--python-version", PYTHON, "--only-binary=:all:", "--no-compile", "--target", str(target)]
        _stdout("python", "-m", "pip", "install", "-q", "--root-user-action=ignore", *options, *torch)
        self._take_certificates(container, root)
        self.buildah("umount", container)
        self.buildah("commit", "--quiet", "--rm", container, BASE)

    def _take_certificates(self, container: str, root: Path) -> None:
        """Let pip in the image trust whom this machine trusts, such as a proxy of its own."""
        here = ssl.get_default_verify_paths().cafile
        if here is not None:
            (root / _CERTIFICATES).write_bytes(Path(here).read_bytes())
            self.buildah("config", "--env", f"PIP_CERT=/{_CERTIFICATES}", container)

    def build(self, source: Path) -> None:
        """The image IMAGE from the Dockerfile in `source`, on BASE."""
        self.buildah("bud", "--isolation", "chroot", "--build-arg", f"BASE_IMAGE={BASE}", "--tag", IMAGE, source)

    def config(self) -> dict[str, Any]:
        """The configuration of IMAGE: user, labels, entry point."""
        document = json.loads(self.buildah("inspect", "--type", "image", IMAGE))
        return dict(document["OCIv1"]["config"])

    @contextmanager
    def container(self) -> Iterator[str]:
        """A fresh container of IMAGE, removed afterwards, as with `docker run --rm`."""
        name = self.buildah("from", IMAGE)
        try:
            # a VOLUME of the image hides what buildah mounts at its place; Docker takes the mount
            self.buildah("config", "--volume", "/data-", "--volume", "/runs-", name)
            yield name
        finally:
            self.buildah("rm", name)

    def run(
        self, *command: str, mounts: dict[Path, str], user: str | None = None, entrypoint: Sequence[str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """`docker run --rm -v HERE:THERE … --user USER --entrypoint ENTRYPOINT IMAGE COMMAND`."""
        options = ["--isolation", "chroot"]
        options += [f"--volume={here}:{there}" for here, there in mounts.items()]
        options += [] if user is None else ["--user", user]
        line = [*(self.config()["Entrypoint"] if entrypoint is None else entrypoint), *command]
        with self.container() as name:
            done = subprocess.run(
                [*self._line("run"), *options, name, "--", *line], capture_output=True, text=True, timeout=900
            )
        who = "the image's user" if user is None else user
        print(f"\n$ {' '.join(line)}    # as {who}, {done.returncode}\n{done.stderr}{done.stdout}")
        return done


def _stdout(*line: str | Path) -> str:
    done = subprocess.run([str(word) for word in line], capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(f"{line} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout
