"""`python -m exkiq` is `exkiq`."""

from __future__ import annotations

import sys

from exkiq.cli import main

sys.exit(main())
