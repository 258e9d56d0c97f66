"""``python -m cador``: the command, for where no scripts are installed."""

import sys

from cador.cli.main import main

sys.exit(main())
