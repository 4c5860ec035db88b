"""Train a model: `python train.py -opt options/toy.yml`."""

import sys

from refusion.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main())
