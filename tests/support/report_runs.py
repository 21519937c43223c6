"""The runs that the report's tests write, for the tests of its neighbours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

_FILE = Path(__file__).resolve().parents[1] / "pipeline" / "report" / "conftest.py"


def _loaded() -> Any:
    spec = importlib.util.spec_from_file_location("report_runs_source", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_source = _loaded()
Method, METHODS, MODEL = _source.Method, _source.METHODS, _source.MODEL
photographs, write_run = _source.photographs, _source.write_run
HOSTILE_LABEL = r"ig_50 & #1 {x}~\%^$"
