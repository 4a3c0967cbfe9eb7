"""What a start tells juliacall changes nothing that plain juliacall does."""

from __future__ import annotations

import json
import signal

import pytest

SEEN = """
import json, warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    from pyjl_autoimage import jl
import juliacall, signal
print(json.dumps({
    "warnings": [str(warning.message) for warning in caught],
    "threads": jl.seval("Threads.nthreads()"),
    "handles_signals": bool(jl.seval("Base.JLOptions().handle_signals != 0")),
    "interrupt": repr(signal.getsignal(signal.SIGINT)).partition(" at ")[0],
}))
"""


def seen(place, **environ):
    """Of a process that lives: where Julia has several threads and does not handle signals it may end by a segmentation
    fault, which juliacall warns of. Julia 1.12 does so once in three times, without us as well."""
    for _ in range(8):
        result = place.python(SEEN, check=False, **environ)
        if result.returncode != -signal.SIGSEGV:
            break
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    ("environ", "warns"),
    [
        ({}, False),
        ({"JULIA_NUM_THREADS": "1"}, False),
        ({"JULIA_NUM_THREADS": "2"}, True),
        ({"PYTHON_JULIACALL_THREADS": "2"}, True),
        ({"PYTHON_JULIACALL_THREADS": "1", "JULIA_NUM_THREADS": "2"}, False),
        ({"PYTHON_JULIACALL_THREADS": "2", "PYTHON_JULIACALL_HANDLE_SIGNALS": "no"}, False),
        ({"PYTHON_JULIACALL_THREADS": "2", "PYTHON_JULIACALL_HANDLE_SIGNALS": "yes"}, False),
    ],
    ids=str,
)
def test_threads_signals_and_the_warning_about_them_are_juliacalls(place, environ, warns):
    plain = seen(place, **environ, PYJL_AUTOIMAGE="0")
    assert seen(place, **environ) == plain
    assert any("multiple threads" in text for text in plain["warnings"]) is warns
