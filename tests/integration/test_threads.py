"""Programs with threads: each does what it does with plain juliacall, and a thread that Julia does not know never enters it.

Julia collects when every thread that it knows lets it. A thread that has started Julia, or that Julia has called Python
on, and that now waits in Python does not; so whatever makes Julia collect on another thread then waits for ever, with
plain juliacall as well. Programs here have Julia collect nothing while that may be (`GC.enable(False)`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from subprocess import TimeoutExpired

import pytest

from conftest import Place, make_place

COMMON = """
import json, os, sys, threading, time
from concurrent.futures import ThreadPoolExecutor

def at_once(*functions):
    "Run each in a thread of its own, all at the same moment; what they gave."
    barrier = threading.Barrier(len(functions))
    def run(function):
        barrier.wait()
        return function()
    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(run, functions))

def in_a_thread(function):
    return at_once(function)[0]
"""
PLAIN = """
def begin():
    from juliacall import Main
    return Main
def include(path):
    return begin().seval("path -> Base.include(Module(:Own), String(path))")(path)
def define(text):
    return begin().seval("text -> Base.include_string(Module(:Own), String(text))")(text)
def attach():
    return True
def detach():
    pass
"""
OURS = """
def begin():
    from pyjl_autoimage import jl
    return jl
def include(path):
    from pyjl_autoimage import include
    return include(path)
def define(text):
    import pyjl_autoimage
    return pyjl_autoimage.define(text.removeprefix("module Own ").removesuffix(" end"))
def attach():
    import pyjl_autoimage
    return pyjl_autoimage.attach()
def detach():
    import pyjl_autoimage
    return pyjl_autoimage.detach()
"""

HANGS = "it hangs"


def run(place: Place, how: str, code: str, seconds: float = 120, **environ: str) -> tuple[int, str] | str:
    """What became of a program: its status and what it printed; or that it hangs."""
    program = COMMON + (OURS if how == "ours" else PLAIN) + code
    command = [sys.executable, *(("-m", "pyjl_autoimage", "run") if how == "run" else ()), "-c", program]
    try:
        result = place.run(command, check=False, timeout=seconds, **environ)
    except TimeoutExpired:
        return HANGS
    assert result.returncode == 0 or how == "plain", result.stderr[-3000:]
    return result.returncode, result.stdout


# Where another thread than the first has started it, Julia 1.12 hangs as a process ends, with plain juliacall as well.
UP_TO_HERE = "\nsys.stdout.flush(); os._exit(0)\n"

_plain: dict[str, tuple[int, str] | str] = {}


def plainly(place: Place, code: str, **environ: str) -> tuple[str, tuple[int, str]]:
    """A program, and what becomes of it on plain juliacall; up to its end where that hangs."""
    for program in (code, code + UP_TO_HERE):
        if program not in _plain:
            _plain[program] = run(place, "plain", program, seconds=60, **environ)
        plain = _plain[program]
        if isinstance(plain, tuple):
            return program, plain
    pytest.skip("plain juliacall hangs here as well")


@pytest.fixture(scope="module", autouse=True)
def _set_up(place: Place) -> None:
    place.python("import juliacall")  # the first time juliapkg prints what it does


def recordings(place: Place) -> set[Path]:
    return set(place.store.glob("v1/environments/*/recordings/*.log"))


STARTS = {
    "a worker": "in_a_thread(begin); jl = begin()",
    "a worker, then another that is called the same": """
names = []
def one():
    names.append(threading.get_ident())
    return begin().seval("1")
threading.Thread(target=one).start()
while not names or threading.active_count() > 1: time.sleep(0.01)
for _ in range(3):
    t = threading.Thread(target=one); t.start(); t.join()
jl = begin()
""",
    "several at once": "jl, *_ = at_once(*[begin] * 4)",
    "some that say import juliacall": """
def theirs():
    import juliacall
    return juliacall.Main
jl, *others = at_once(begin, theirs, begin, theirs)
assert all(other is jl for other in others)
""",
    "the main one, while others import juliacall": """
def theirs():
    import juliacall
    return juliacall.Main
others = [threading.Thread(target=theirs) for _ in range(3)]
for other in others[:2]: other.start()
jl = begin()
others[2].start()
for other in others: other.join()
""",
}


@pytest.mark.parametrize("how", ["ours", "run"])
@pytest.mark.parametrize("starts", STARTS, ids=lambda starts: starts.replace(" ", "-"))
def test_whichever_thread_starts_julia(place: Place, starts: str, how: str) -> None:
    before = recordings(place)
    code = (
        STARTS[starts] + '\nprint(jl.seval("1 + 1"), at_once(*[lambda: jl.seval("2 + 2")] * 3), jl.seval("3 + 3"))\n'
        'import juliacall\nprint(juliacall.Main is jl, juliacall.CONFIG["inited"])'
    )
    program, plain = plainly(place, code)
    assert run(place, how, program) == plain == (0, "2 [4, 4, 4] 6\nTrue True\n")
    assert len(recordings(place) - before) <= 1, "at most one start: plain where somebody else's import was first"


ENTER = """
import pyjl_autoimage as a
import pyjl_autoimage.startup.start as start
in_a_thread(begin)
jl = begin()
jl.GC.enable(False)
start.session.tracing = "attach" not in "{call}"
seen = []
def enter():
    # On a thread that Julia has never heard of, each time: nothing else of Julia is called before.
    import juliacall
    known = juliacall.CONFIG["lib"].jl_get_pgcstack
    seen.append(known() is None or not known())
    return {call}
for _ in range(3):
    t = threading.Thread(target=lambda: seen.append(enter())); t.start(); t.join()
print(seen[::2], jl.seval("1 + 1"))
"""


@pytest.mark.parametrize("call", ["a.attach()", "a.detach()", "start.load_from_layer('Nothing', '%s')"])
def test_a_thread_that_julia_has_never_heard_of(place: Place, call: str) -> None:
    """Python calls the next thread what the one was called that started Julia, and has ended."""
    code = ENTER.replace("{call}", call.replace("%s", "7d1f0d65-5b0e-4b8a-9a3e-0c7a3f1f2b21"))
    ends, _ = plainly(place, "in_a_thread(begin)\nbegin()\n")
    assert run(place, "ours", code + UP_TO_HERE * ends.endswith(UP_TO_HERE)) == (0, "[True, True, True] 2\n")


OWN = """
jl = begin()
jl.GC.gc(); jl.GC.enable(False)
path = os.path.join(os.getcwd(), "own.jl")
text = "module Own twice(x) = 2x end"
"""
USES = {
    "include": "print(in_a_thread(lambda: include(path).total([1, 2, 3])))",
    "define": "print(in_a_thread(lambda: define(text).twice(21)))",
    "both-and-main": (
        "print(in_a_thread(lambda: include(path)).total([1, 2]), define(text).twice(4))\n"
        "print(in_a_thread(lambda: (include(path).total([3]), define(text).twice(5))))"
    ),
    "many-at-once": (
        "print(at_once(*[lambda: include(path).total([1, 2, 3]), lambda: define(text).twice(21)] * 4))\n"
        "print(include(path).total([4]))"
    ),
    "a-worker-starts": (
        "print(in_a_thread(lambda: include(path).total([1, 2, 3])))\nprint(in_a_thread(lambda: define(text).twice(21)))"
    ),
}


@pytest.mark.parametrize("use", USES)
def test_own_code_from_worker_threads(place: Place, use: str) -> None:
    (place.root / "own.jl").write_text("module Own\ntotal(x) = sum(x) + length(x)\nend\n")
    code = OWN.replace("jl = begin()", "").replace("jl.GC.gc(); jl.GC.enable(False)", "") if "starts" in use else OWN
    program, plain = plainly(place, code + USES[use])
    (place.root / "own.jl").write_text("total(x) = sum(x) + length(x)\n")
    assert run(place, "ours", program) == plain


@pytest.fixture(scope="module")
def layered(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Place:
    """A program whose own code is in a layer."""
    place = make_place(tmp_path_factory.mktemp("threads"), prepared)
    (place.root / "own.jl").write_text("total(x) = sum(x) + length(x)\n")
    (place.root / "program.py").write_text(
        COMMON + OURS + OWN.replace("jl.GC.enable(False)", "jl.GC.enable(False)\nfrom pyjl_autoimage.startup.start import session")
        + "own = include if 'MAIN' in os.environ else lambda path: in_a_thread(lambda: include(path))\n"
        "total = own(path).total\n"
        "text = 'twice(x) = 2x'\n"
        "print(json.dumps([in_a_thread(lambda: [total([1, 2, 3]), define(text).twice(21)]), session.plan.layer is not None,\n"
        "    session.evaluator is None]))\n"
    )  # fmt: skip
    assert json.loads(place.run_file(place.root / "program.py").stdout.splitlines()[-1]) == [[9, 42], False, False]
    built = json.loads(place.cli("build", "--quick", "--json").stdout.splitlines()[-1])
    assert built["layers"], built
    return place


@pytest.mark.parametrize("environ", [{}, {"MAIN": "1"}, {"PYJL_AUTOIMAGE_PRELOAD": "0"}], ids=str)
def test_own_code_comes_from_a_layer_to_worker_threads(layered: Place, environ: dict[str, str]) -> None:
    """From Julia 1.12 on it is evaluated in them: to load a cache would wait for the thread that waits for them."""
    said = layered.run_file(layered.root / "program.py", **environ).stdout
    anywhere = tuple(map(int, layered.facts.version.split(".")[:2])) < (1, 12)
    assert json.loads(said.splitlines()[-1]) == [[9, 42], True, anywhere]


ATTACHED = """
from juliacall import Main as jl
jl.GC.gc(); jl.GC.enable(False)
import pyjl_autoimage as a
def work():
    given = a.attach()
    jl.seval("in_the_worker(x) = (x, 1.0f0, x); in_the_worker(UInt16(1))")
    a.detach()
    jl.seval("after_it(x) = (x, 1.0f0, x); after_it(UInt16(1))")
    return given
given = in_a_thread(work)
jl.seval("after_that(x) = (x, 1.0f0, x); after_that(UInt16(1))")
again = in_a_thread(a.attach)
jl.seval("at_last(x) = (x, 1.0f0, x); at_last(UInt16(1))")
from pyjl_autoimage.startup.start import session
with open(session.recording.trace) as trace:
    said = trace.read()
in_a_thread(a.detach)
print(given, again, [name in said for name in ("in_the_worker", "after_it", "after_that", "at_last")])
"""


def test_attach_and_detach_from_worker_threads(place: Place) -> None:
    assert run(place, "plain", ATTACHED) == (0, "True True [True, False, False, True]\n")


def test_detach_from_a_worker_thread_of_a_start_of_ours(place: Place) -> None:
    code = """
jl = begin()
jl.GC.gc(); jl.GC.enable(False)
in_a_thread(detach)
jl.seval("not_noted(x) = (x, 1.0f0, x); not_noted(UInt16(1))")
at_once(attach, attach, attach)
jl.seval("noted(x) = (x, 1.0f0, x); noted(UInt16(1))")
from pyjl_autoimage.startup.start import session
with open(session.recording.trace) as trace:
    said = trace.read()
print(["not_" + name in said or name in said.replace("not_", "un") for name in ("noted",)], "not_noted" in said)
"""
    assert run(place, "ours", code) == (0, "[True] False\n")


# -- Julia collects ------------------------------------------------------------------------------------


COLLECTS = {
    "main waits in Python": """
jl = begin()
in_a_thread(lambda: jl.seval("GC.gc(); 1"))
print("end")
""",
    "the one that started Julia has ended": """
in_a_thread(begin)
jl = begin()
jl.seval("GC.gc()")
in_a_thread(lambda: jl.seval("GC.gc()"))
print("end")
""",
    "main goes on to call Julia": """
jl = begin()
own = define("module Own collects() = (GC.gc(); sum(length(string(n)) for n in 1:10^5)) end")
collects = own.collects._jl_call_nogil
moments = getattr(jl, "yield")
with ThreadPoolExecutor(1) as pool:  # of several one may wait for the GIL, for which Julia waits as well
    waited = [pool.submit(collects) for _ in range(4)]
    while not all(one.done() for one in waited):
        moments(); time.sleep(0.001)
print([one.result() for one in waited])
""",
}


@pytest.mark.parametrize("what", COLLECTS, ids=lambda what: what.replace(" ", "-"))
def test_julia_collects_on_a_worker_thread(place: Place, what: str) -> None:
    environ = {"PYTHON_JULIACALL_HANDLE_SIGNALS": "yes"}  # as juliacall's documentation wants it for threads
    program, plain = plainly(place, COLLECTS[what], **environ)
    assert run(place, "ours", program, **environ) == plain


END = """
jl = begin()
jl.seval("f(x, y) = sum(map(a -> a[1] + a[2], zip(collect(x), collect(y)))); for n in 1:25; Base.invokelatest(f, Tuple(1:n), Tuple(1.0:n)); end")
# So much may be allocated until the next collection, as far as this Julia tells.
jl.seval("left() = (n = Base.gc_num(); (Int(n.collect) - Int(n.allocd)) / 1e6)")
jl.seval("fill_up(to) = (for n in 1:400_000; left() > to || break; global kept = Vector{UInt8}(undef, 1000); end)")
call = jl.seval("f -> f()")
jl.fill_up(30)
jl.GC.gc()
asleep = threading.Event()
threading.Thread(target=lambda: call(lambda: (asleep.set(), time.sleep(1000))), daemon=True).start()
asleep.wait()
jl.left(); jl.fill_up(3)
print("end")
"""


def test_a_program_ends_though_a_thread_that_julia_waits_for_does_not(place: Place) -> None:
    """To note what a run inferred, as it ends, takes memory: Julia may collect for that alone, and wait for ever."""
    before = recordings(place)
    plain = run(place, "plain", END, seconds=60)
    if plain == HANGS:
        pytest.skip("plain juliacall hangs here as well")
    assert run(place, "ours", END, seconds=60) == plain
    (own,) = recordings(place) - before
    if "inferred" not in own.with_suffix(".jl").read_text():
        pytest.skip("nothing was noted here as the process ended")
