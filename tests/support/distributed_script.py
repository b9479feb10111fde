"""Runs a script of the examples as one of several workers, `well_conditioned`: `distributed_script.py SCRIPT`."""

import runpy
import sys

from support.distributed import well_conditioned

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    with well_conditioned():
        runpy.run_path(sys.argv[0], run_name="__main__")
