"""All cases without pytest, for the oldest interpreter that servers have: `python3.9 tests/cases/oldest.py`."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]


def main() -> int:
    """Exit code 0 when all cases hold, and there are some."""
    from casefile import case_files, run_case, title

    failed = 0
    files = case_files()
    for path in files:
        try:
            run_case(path)
        except AssertionError as error:
            failed += 1
            print(f"{title(path)}: {error}", file=sys.stderr)
    print(f"{len(files) - failed} of {len(files)} cases hold on Python {sys.version.split()[0]}")
    return 1 if failed or not files else 0


if __name__ == "__main__":
    raise SystemExit(main())
