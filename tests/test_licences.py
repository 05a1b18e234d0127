import tomllib
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATA = ROOT / "resnetctl" / "data"


def test_all_licences_and_origins_of_bundled_data_are_declared() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license-files"]
    there = {
        p.relative_to(ROOT).as_posix() for p in (ROOT / "resnetctl").rglob("*") if p.name[:7] in ("LICENSE", "ORIGIN.")
    }
    assert set(declared) == there | {"LICENSE"}


def test_every_bundled_file_of_data_has_an_origin() -> None:
    """In the installed package too."""
    package = Path(str(files("resnetctl"))) / "data"
    described = (package / "imagenet" / "ORIGIN.md").read_text() + (package / "sample" / "ORIGIN.md").read_text()
    bundled = [p.name for p in package.rglob("*") if p.suffix in (".tsv", ".bin", ".zip")]
    assert len(bundled) == 4
    assert all(f"`{name}`" in described for name in bundled)
    for word in ("WordNet 3.0", "Apache 2.0", "Fashion-MNIST"):
        assert word in described
    wordnet = (package / "imagenet" / "LICENSE.wordnet").read_text()
    assert "Princeton University" in wordnet
    assert "Apache License" in (package / "imagenet" / "LICENSE.tensorflow-datasets").read_text()
    assert "Zalando" in (package / "sample" / "LICENSE").read_text()
