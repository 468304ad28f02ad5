"""The case runner's modules import each other by name, as oldest.py needs it without pytest."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
