"""Where the results of benchmarks go: JSON to the standard output and to a file, a table beside it."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path


def parser(doc: str) -> argparse.ArgumentParser:
    """Of a benchmark's options; what it is for is the first line of its documentation."""
    found = argparse.ArgumentParser(description=doc.splitlines()[0])
    found.add_argument("--json", dest="json_file", metavar="FILE", help="write the result here, too")
    return found


def show(result: dict, options: argparse.Namespace, table: str = "") -> None:
    text = json.dumps(result, indent=2)
    if options.json_file:
        Path(options.json_file).write_text(text + "\n")
    print(text)
    if table:
        print(table, file=sys.stderr)


def machine() -> str:
    """What the figures were measured on."""
    return f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
