"""`python -m tfvl` is the command `tfvl`."""

import sys

from tfvl.cli.app import main

sys.exit(main())
