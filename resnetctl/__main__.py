"""`python -m resnetctl`, the same program as the `resnetctl` console script."""

from resnetctl.cli.app import main

if __name__ == "__main__":
    main()
