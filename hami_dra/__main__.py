"""Run the command line: `python3 -m hami_dra`."""

import sys

from hami_dra.cli import main

sys.exit(main())
