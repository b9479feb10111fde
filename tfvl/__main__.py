"""`python -m tfvl` is the command `tfvl`."""

import sys

from tfvl.cli import main

sys.exit(main())
