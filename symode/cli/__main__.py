"""``python -m symode.cli``: the command line."""

import sys

from symode.cli.main import main

sys.exit(main())
