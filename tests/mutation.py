"""Faults made by a machine in what decides a run's bits, and whether the tests notice them.

python -m tests.mutation                 # all of [tool.mutmut] in pyproject.toml: some three hours on one core
python -m tests.mutation --sample 40     # so many of each module, drawn with --seed

It needs `pip install '.[test,mutation]'`. What was tried before (in mutants/) is not tried again. At the end stand a
table and the names of the faults that nothing noticed; `mutmut show NAME` prints one.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
from pathlib import Path

MUTANTS = Path("mutants")
NOT_NOTICED = (0, 5, 33)  # survived; no tests, by pytest's and by mutmut's own code
INTERRUPTED = 2


def tried() -> dict[str, dict[str, int | None]]:
    """Module to mutant to the exit code of its tests, None where they did not run."""
    found = {}
    for path in sorted(MUTANTS.rglob("*.py.meta")):
        codes = json.loads(path.read_text())["exit_code_by_key"]
        codes = {name: None if code == INTERRUPTED else code for name, code in codes.items()}
        if codes:
            found[str(path.relative_to(MUTANTS)).removesuffix(".py.meta")] = codes
    return found


def mutmut(*names: str) -> None:
    subprocess.run(["mutmut", "run", "--max-children", "1", *names], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, metavar="N", help="mutants of each module; default: all")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not tried():
        mutmut("none-of-them")  # writes them, and finds out which test runs which function
    wanted = []
    for codes in tried().values():
        names = sorted(codes)
        if args.sample is not None:
            names = random.Random(args.seed).sample(names, min(args.sample, len(names)))
        wanted += [name for name in names if codes[name] is None]
    if wanted:
        mutmut(*wanted)
    report(tried())


def report(found: dict[str, dict[str, int | None]]) -> None:
    print(f"\n{'module':40} tried  noticed")
    missed = []
    for module, codes in found.items():
        ran = {name: code for name, code in codes.items() if code is not None}
        missed += [name for name, code in ran.items() if code in NOT_NOTICED]
        noticed = sum(code not in NOT_NOTICED for code in ran.values())
        share = f"{100 * noticed / len(ran):.0f} %" if ran else "-"
        print(f"{module:40} {len(ran):5}  {noticed:5}  {share}")
    print("\nnot noticed:", *missed, sep="\n    ")


if __name__ == "__main__":
    main()
