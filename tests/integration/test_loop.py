"""Record, rebuild, restart, with a real Julia, on a real program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyjl_autoimage.base.files import file_sha256
from pyjl_autoimage.build import linking
from pyjl_autoimage.store.built import Image

NAMES_IN_MAIN = (
    "import json\nfrom pyjl_autoimage import jl\nimport juliacall, pyjl_autoimage.startup.start as r\n"
    "print(json.dumps({'names': sorted(str(n) for n in jl.seval('names(Main, all=true, imported=true)')),"
    " 'usings': sorted(str(m) for m in jl.seval('[string(m) for m in ccall(:jl_module_usings, Any, (Any,), Main)]')),"
    " 'on_image': r.session.on_image, 'same': jl is juliacall.Main, 'notes': r.session.notes}))"
)


def test_a_stock_start_is_recorded_from_the_very_start(place):
    before = set(place.store.glob("v1/environments/*/recordings/*"))
    told = place.json(NAMES_IN_MAIN)
    assert told["same"] and not told["on_image"] and told["notes"] == []
    written = sorted(set(place.store.glob("v1/environments/*/recordings/*")) - before)
    trace, log = written
    assert trace.suffix == ".jl" and log.suffix == ".log"
    lines = trace.read_text().splitlines()
    assert len(lines) > 20
    assert any("PythonCall" in line for line in lines)
    packages = [line.split()[2] for line in log.read_text().splitlines() if line.startswith("package ")]
    assert {"PythonCall", "Tables"} <= set(packages)
    assert len(packages) == len(set(packages))


def test_a_stock_start_leaves_main_as_plain_juliacall_does(place):
    plain = place.json(NAMES_IN_MAIN, PYJL_AUTOIMAGE="0")
    ours = place.json(NAMES_IN_MAIN)
    assert ours["names"] == plain["names"]
    assert ours["usings"] == plain["usings"]


def test_a_package_loaded_later_is_noted_as_it_loads(place):
    code = (
        "from pyjl_autoimage import jl\nimport os, pyjl_autoimage.startup.start as r\n"
        "log = r.session.recording.log\nbefore = open(log).read()\n"
        "jl.seval('using SHA, Example' if jl.seval('Base.find_package(\"Example\") !== nothing') else 'using Dates, Test')\n"
        "after = open(log).read()\nassert after.startswith(before) and len(after) > len(before), (before, after)\n"
        "print(after[len(before):], flush=True)\nos._exit(1)\n"
    )
    result = place.python(code, check=False)
    assert result.returncode == 1, result.stderr
    assert "package " in result.stdout


def test_a_child_inherits_neither_image_nor_trace_file(place):
    code = """
import json, multiprocessing, os, subprocess, sys
def look():
    import juliacall
    return {k: juliacall.CONFIG[k] for k in ("opt_sysimage", "opt_trace_compile")}
if __name__ == "__main__":
    import pyjl_autoimage
    pyjl_autoimage.start()
    from pyjl_autoimage.startup.start import session
    size = os.path.getsize(session.recording.trace)
    assert size > 0
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.apply(look)
    code = "import json, child; print(json.dumps(child.look()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert os.path.getsize(session.recording.trace) >= size
    print(json.dumps([spawned, json.loads(run.stdout.splitlines()[-1])]))
"""
    script = place.root / "child.py"
    script.write_text(code)
    result = subprocess.run(
        [sys.executable, str(script)],
        env={**place.environ, "PYTHONPATH": str(place.root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == [{"opt_sysimage": None, "opt_trace_compile": None}] * 2


def test_options_of_the_user_win(place, tmp_path):
    trace = tmp_path / "theirs.jl"
    code = (
        "import json\nfrom pyjl_autoimage import jl\nimport juliacall, pyjl_autoimage.startup.start as r\n"
        "jl.seval('f(x) = x + 1; f(2.5)')\n"
        "print(json.dumps({'trace': juliacall.CONFIG['opt_trace_compile'], 'notes': r.session.notes}))"
    )
    told = place.json(code, PYTHON_JULIACALL_TRACE_COMPILE=str(trace))
    assert told["trace"] == str(trace) and trace.stat().st_size > 0
    assert any("records nothing" in note for note in told["notes"])
    told = place.json(code, "-X", f"juliacall-trace-compile={trace}")
    assert told["trace"] == str(trace)


ATTACH = """
import json, warnings
import juliacall
import pyjl_autoimage
from pyjl_autoimage.startup.start import session
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    attached = pyjl_autoimage.attach()
    again = pyjl_autoimage.attach()
jl = juliacall.Main
jl.seval("g_attached(x) = string(x, x); g_attached(Complex{Float32}(1))")
trace = open(session.recording.trace).read() if session.recording else ""
log = open(session.recording.log).read() if session.recording else ""
pyjl_autoimage.detach()
jl.seval("h_detached(x) = string(x, x); h_detached(Complex{Float16}(1))")
after = open(session.recording.trace).read() if session.recording else ""
pyjl_autoimage.attach()
jl.seval("i_again(x) = string(x, x); i_again(Complex{Int8}(1))")
last = open(session.recording.trace).read() if session.recording else ""
print(json.dumps({"attached": attached, "again": again, "trace": trace, "log": log, "after": after, "last": last,
                  "caught": [str(w.message) for w in caught]}))
"""


def test_attaching_to_a_julia_that_already_runs(place):
    told = place.json(ATTACH)
    assert told["attached"] is True and told["again"] is True and told["caught"] == []
    assert "g_attached" in told["trace"]
    assert "package " in told["log"] and "PythonCall" in told["log"]
    assert "h_detached" not in told["after"]
    assert "i_again" in told["last"] and told["last"].startswith(told["trace"])


def test_a_julia_that_traces_elsewhere_is_detected(place, tmp_path):
    trace = tmp_path / "elsewhere.jl"
    told = place.json(ATTACH, PYTHON_JULIACALL_TRACE_COMPILE=str(trace))
    assert told["attached"] is False
    assert "traces its compilations elsewhere" in told["caught"][0]
    assert "g_attached" in trace.read_text(), "their trace must go on"


def test_an_unmodified_program_is_recorded_under_run(place, tmp_path):
    script = tmp_path / "theirs.py"
    script.write_text(
        "import sys\nfrom juliacall import Main as jl\nimport juliacall\n"
        "assert __name__ == '__main__' and __file__ == sys.argv[0]\n"
        "print(sys.argv[1:], jl.seval('1 + 1'), juliacall.CONFIG['opt_trace_compile'] is not None)\nsys.exit(7)\n"
    )
    result = place.cli("run", str(script), "--json", "-x", check=False)
    assert result.returncode == 7, result.stderr
    assert result.stdout == "['--json', '-x'] 2 True\n"


def test_status_before_anything(place):
    data = json.loads(place.cli("status", "--json").stdout)
    assert data["environment"]["julia_version"] == place.facts.version
    assert data["environment"]["project"] == place.environment.project
    assert data["environment"]["executable"] == place.environment.executable
    assert data["environment"]["id"] == place.environment.id
    assert data["image"] is None and data["rejected"] == []
    assert data["build"]["state"] == "none"
    assert set(data["profile"]) >= {"statements", "recordings"}
    assert "Slow." in place.cli("status").stdout


# -- with an image -------------------------------------------------------------------------------------


def image_of(place) -> Image:
    (directory,) = [d for d in (place.store / "v1" / "images").iterdir() if (d / "image.json").exists()]
    return Image.from_json((directory / "image.json").read_text(), str(directory / "sys.so"))


def test_the_next_process_starts_on_the_image_and_answers_the_same(built):
    stock, _, done = built.history[:3]
    assert done["state"] == "done"
    on_image = built.program(built.variant)
    assert on_image["answer"] == stock["answer"]
    assert built.json(NAMES_IN_MAIN)["on_image"]


def test_what_was_recorded_is_in_the_image(built):
    status = built.history[1]
    # The example; with CSV the model, too, and twice the program of the quickstart.
    runs = 4 if built.variant == "with-csv" else 1
    assert status["profile"]["recordings"] == runs and status["profile"]["statements"] > 100
    image = image_of(built)
    compiled, inferred = status["profile"]["statements"], status["profile"]["inferred"]
    assert image.statements > 0.8 * compiled and image.statements > 0.9 * (compiled + inferred)
    late = [int(note.split()[0]) for note in built.history[2]["notes"] if "cannot be compiled ahead" in note]
    assert sum(late) < 0.2 * compiled
    names = {package.name for package in image.packages}
    loaded = set(status["profile"]["packages"]) - built.manifest.extensions
    assert "PythonCall" in loaded
    assert loaded <= names | set(built.history[2]["left_out"])
    for package in image.packages:
        listed = built.manifest.packages[package.uuid]
        assert (package.version, package.tree_sha1) == (listed.version, listed.tree_sha1)
    assert file_sha256(image.path) == image.sha256 and image.sha256.startswith(image.id)


def test_names_in_main_are_not_changed_by_the_image(built):
    plain = built.json(NAMES_IN_MAIN, PYJL_AUTOIMAGE="0")
    ours = built.json(NAMES_IN_MAIN)
    assert ours["on_image"] and ours["same"]
    assert ours["names"] == plain["names"]
    assert ours["usings"] == plain["usings"]


def test_a_run_on_the_image_compiles_little(built):
    stock = built.history[1]["profile"]["statements"]
    code = (
        "from pyjl_autoimage.people.demos import tables; import pyjl_autoimage.startup.start as r, sys\n"
        f"tables.main({built.variant!r})\n"
        "lines = open(r.session.recording.trace).read().splitlines()\n"
        "import json; print(json.dumps({'lines': lines, 'log': open(r.session.recording.log).read()}))"
    )
    told = built.json(code)
    assert len(told["lines"]) < 0.2 * stock, told["lines"]
    assert "PythonCall" not in told["log"], "what is in the image is no evidence"


def test_status_names_the_image(built):
    data = json.loads(built.cli("status", "--json").stdout)
    image = image_of(built)
    assert data["image"]["id"] == image.id
    assert data["image"]["path"] == image.path and data["image"]["bytes"] == os.path.getsize(image.path)
    assert data["build"]["state"] == "done"
    assert built.cli("status").stdout.startswith("Fast")


def test_julias_own_workers_work_on_the_image(built):
    code = (
        "import json\nfrom pyjl_autoimage import jl\n"
        "jl.seval('using Distributed')\njl.seval('addprocs(1)')\n"
        "file = jl.seval('remotecall_fetch(() -> unsafe_string(Base.JLOptions().image_file), 2)')\n"
        "answer = jl.seval('remotecall_fetch(x -> x + 1, 2, 41)')\n"
        "print(json.dumps({'file': str(file), 'answer': answer}))"
    )
    told = built.json(code)
    assert told == {"file": image_of(built).path, "answer": 42}


def test_children_of_a_process_on_the_image_inherit_nothing(built):
    test_a_child_inherits_neither_image_nor_trace_file(built)


def test_a_sysimage_of_the_user_wins(built):
    code = (
        "import json\nfrom pyjl_autoimage import jl\nimport pyjl_autoimage.startup.start as r\n"
        "print(json.dumps({'file': str(jl.seval('unsafe_string(Base.JLOptions().image_file)')),"
        " 'notes': r.session.notes}))"
    )
    told = built.json(code, PYTHON_JULIACALL_SYSIMAGE=built.facts.base_sysimage)
    assert told["file"] == built.facts.base_sysimage
    assert any(built.facts.base_sysimage in note for note in told["notes"])


def test_an_unmodified_program_runs_on_the_image_under_run(built, tmp_path):
    script = tmp_path / "theirs.py"
    script.write_text("import juliacall\nprint(juliacall.CONFIG['opt_sysimage'])\n")
    assert built.cli("run", str(script)).stdout.strip() == image_of(built).path


def test_a_manifest_that_moved_on_means_a_stock_start_and_a_reason(built):
    path = Path(built.manifest.path)
    text = path.read_text()
    tables = built.manifest.by_name("Tables")[0]
    try:
        path.write_text(text.replace(f'version = "{tables.version}"', 'version = "99.0.0"'))
        data = json.loads(built.cli("status", "--json").stdout)
        assert data["image"] is None
        reasons = [reason for entry in data["rejected"] for reason in entry["reasons"]]
        assert f"Tables {tables.version} in the image, 99.0.0 in the manifest" in reasons
    finally:
        path.write_text(text)
    assert json.loads(built.cli("status", "--json").stdout)["image"] is not None


def test_nothing_is_left_of_a_build_but_its_log(built):
    build = built.history[2]
    assert "build.log" in build["left"] and "build" not in build["left"]
    assert "[autoimage] phase: native code" in build["text"] and "[autoimage] done: " in build["text"]
    state = build["ended"]
    assert state["state"] == "done"
    assert {"prepare", "precompile", "native code", "link", "prove"} <= set(state["seconds"])


def test_an_image_is_linked_with_the_linker_of_its_julia(built):
    """And with nothing else."""
    lld = linking.lld(built.facts.bindir)
    if lld is None or os.environ.get("JULIA_CC"):
        pytest.skip("this Julia has no lld, or JULIA_CC says who is to link")
    assert re.findall(r"\[autoimage\] linking with (.+)", built.history[2]["text"]) == [lld]


def test_the_users_precompile_caches_are_not_touched_by_a_build(built):
    """Julia keeps ten caches of a package and drops the oldest: the build has a depot of its own."""
    before, after = built.history[2]["caches"]
    assert after == before
    assert set(os.listdir(Path(image_of(built).path).parent)) - {"depot"} == {"image.json", "sys.so"}


def test_standard_libraries_outside_the_image_do_not_wait_to_be_precompiled(built):
    """Julia's own caches of them do not fit an image; the image brings others."""
    depot = Path(image_of(built).path).parent / "depot"
    before = built.caches()
    code = (
        "import json\nfrom pyjl_autoimage import jl\njl.seval('using Test, Profile, DelimitedFiles')\n"
        "print(json.dumps([str(p) for p in jl.seval('[Base.pkgorigins[Base.PkgId(m)].cachepath for m in (Test, Profile)]')]))"
    )
    paths = built.json(code)
    assert all(path.startswith(str(depot)) for path in paths), paths
    assert built.caches() == before


def test_clean_keeps_the_image_in_use(built):
    data = json.loads(built.cli("clean", "--dry-run", "--json").stdout)
    assert data["removed"] == []
    assert any(image_of(built).id in entry["name"] for entry in data["kept"])


# -- packages tracked by path --------------------------------------------------------------------------


def test_packages_tracked_by_path_are_baked_when_asked(built_by_path):
    stock, _, done = built_by_path.history[:3]
    if built_by_path.variant == "with-csv":
        why = dict(done["left_out"])
        assert why.pop("CSV") == "it is excluded"
        ((name, reason),) = why.items()  # the example's own code uses it
        assert name.startswith("model_") and reason.endswith("uses CSV, not in the image")
    assert built_by_path.program(built_by_path.variant)["answer"] == stock["answer"]
    image = image_of(built_by_path)
    by_path = [package for package in image.packages if package.path]
    assert by_path and all(package.digest and package.tree_sha1 is None for package in by_path)
    assert built_by_path.json(NAMES_IN_MAIN)["on_image"]


def test_what_a_slim_image_leaves_out_still_works(built_by_path):
    """The image of packages tracked by path is a slim one."""
    forgot = re.search(r"slim: forgot (\d+) of (\d+) method instances", built_by_path.history[2]["text"])
    assert forgot and 0 < int(forgot[1]) < int(forgot[2]) / 2
    told = built_by_path.json(
        "import json\nfrom pyjl_autoimage import jl\nfrom pyjl_autoimage.startup import start as runtime\njl.seval('using Pkg')\n"
        "status = jl.seval('sprint(io -> Pkg.status(; io))')\n"
        "print(json.dumps({'on_image': runtime.session.on_image, 'status': status}))"
    )
    assert told["on_image"] and "PythonCall" in told["status"]


def test_packages_outside_the_image_are_precompiled_for_it_before_anybody_waits(built_by_path):
    if built_by_path.variant != "with-csv":
        pytest.skip("the prepared project has no CSV to leave out")
    depot = Path(image_of(built_by_path).path).parent / "depot"
    assert os.listdir(depot) == ["compiled"]
    assert list(depot.glob("compiled/*/CSV/*.so")) or list(depot.glob("compiled/*/CSV/*.ji"))
    before = built_by_path.caches()
    code = (
        "import json\nfrom pyjl_autoimage import jl\njl.seval('using CSV')\n"
        "print(json.dumps(str(jl.seval('Base.pkgorigins[Base.PkgId(CSV)].cachepath'))))"
    )
    result = built_by_path.python(code)
    assert str(depot) in result.stdout
    assert "recompiling" not in result.stderr.lower()
    assert built_by_path.caches() == before


def test_edited_sources_of_a_baked_package_mean_a_stock_start(built_by_path):
    package = next(p for p in image_of(built_by_path).packages if p.path)
    source = Path(package.path, "src", f"{package.name}.jl")
    text = source.read_text()
    try:
        source.write_text(text + "\n# edited\n")
        assert not built_by_path.json(NAMES_IN_MAIN)["on_image"]
        data = json.loads(built_by_path.cli("status", "--json").stdout)
        assert data["rejected"][0]["reasons"] == [f"the source of {package.name} has changed: {source}"]
    finally:
        source.write_text(text)
    assert built_by_path.json(NAMES_IN_MAIN)["on_image"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at the mapped files in /proc")
def test_the_image_is_what_the_process_maps(built):
    code = "from pyjl_autoimage import jl\nprint(open('/proc/self/maps').read())"
    maps = built.python(code).stdout
    assert image_of(built).path in maps
    assert built.facts.base_sysimage not in maps
