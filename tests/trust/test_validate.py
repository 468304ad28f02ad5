"""What services say of their configuration (remote/validate.py), with a program that reads a folder of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import validate
from serverflow_actions.kit.host import HostError

#: As `visudo -c`: of one file its text counts, of all of them the mode too.
VISUDO = """#!{python}
import glob, os, sys
paths = sys.argv[3:] or glob.glob("{folder}/sudoers/*")
bad = [path for path in paths if "bad" in open(path).read()]
bad += [path for path in paths if not sys.argv[3:] and os.stat(path).st_mode & 0o777 != 0o440]
sys.exit(f"bad: {{bad}}" if bad else 0)
"""


@pytest.fixture
def sudoers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    program = tmp_path / "visudo"
    program.write_text(VISUDO.format(python=sys.executable, folder=tmp_path))
    program.chmod(0o755)
    monkeypatch.setitem(validate._WHOLE, f"{tmp_path}/sudoers/*", (str(program), "-c"))
    monkeypatch.setitem(validate._ALONE, f"{tmp_path}/sudoers/*", (str(program), "-c", "-f"))
    (tmp_path / "sudoers").mkdir()
    put(tmp_path / "sudoers/theirs", "good")
    return tmp_path / "sudoers"


def put(path: Path, text: str, mode: int = 0o440) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_what_was_in_order_has_to_stay_so(sudoers: Path) -> None:
    ours = sudoers / "ours"
    known = validate.broken([str(ours)])
    assert known == frozenset()
    validate.after([put(ours, "good")], known)
    with pytest.raises(HostError, match="ours is not in order: visudo: bad"):
        validate.after([put(ours, "bad")], known)
    with pytest.raises(HostError, match="ours is not in order: visudo: bad"):
        validate.after([put(ours, "good", 0o644)], known)


@pytest.mark.parametrize(("text", "mode"), [("good", 0o644), ("bad", 0o440)])
def test_somebody_elses_file_that_was_broken_before_is_not_ours_to_judge(sudoers: Path, text: str, mode: int) -> None:
    ours = sudoers / "ours"
    put(sudoers / "theirs", text, mode)
    known = validate.broken([str(ours)])
    validate.after([put(ours, "good")], known)
    with pytest.raises(HostError, match="ours is not in order"):
        validate.after([put(ours, "bad")], known)
    with pytest.raises(HostError):  # as long as nobody looked before
        validate.after([put(ours, "good")])


def test_one_that_is_gone_is_judged_with_the_rest_only(sudoers: Path) -> None:
    validate.after([str(sudoers / "gone")])
