"""Every check on a machine where all is well and on broken ones, and the report for an issue."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pyjl_autoimage.base.liveness import mark_name
from pyjl_autoimage.base.settings import Settings
from pyjl_autoimage.build import julia, packagecompiler
from pyjl_autoimage.build.state import State
from pyjl_autoimage.julia import versions
from pyjl_autoimage.people import doctor as doctor_module

from standin import PYTHONCALL, World, buildable_world, cli, environ_of, forbid_writing, pythoncall

BUILDER_MANIFEST = """manifest_format = "2.0"
[[deps.PackageCompiler]]
uuid = "9b87118b-4619-50d2-8e1e-99f35a4d4d9d"
git-tree-sha1 = "46e44e869b4d90b96bd8ed1fdcf32244fddfb6cc"
version = "2.2.3"
"""


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = buildable_world(tmp_path)
    (tmp_path / "builder" / "Manifest.toml").write_text(BUILDER_MANIFEST)
    return world


def doctor(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return cli(environ, "doctor", *arguments)


def checks_of(world: World, *arguments: str, **environ: str) -> tuple[int, dict[str, dict]]:
    result = doctor(environ_of(world, **environ), "--json", *arguments)
    assert result.stdout, result.stderr
    return result.returncode, {check["what"]: check for check in json.loads(result.stdout)["checks"]}


def test_where_all_is_well(world):
    image = world.publish()
    world.publish_layer()
    status, checks = checks_of(world)
    assert [what for what, check in checks.items() if not check["ok"]] == []
    assert status == 0
    found = {what: check["found"] for what, check in checks.items()}
    assert found[f"image {image.id}"].endswith("checksum matches; fits")
    assert found["Julia"].startswith("1.10.4 ") and "PYTHON_JULIACALL_EXE" in found["Julia"]
    assert str(world.project) in found["Julia project"] and "2 packages" in found["Julia project"]
    assert found["PythonCall"] == "PythonCall 0.9.37, juliacall 0.9.37"
    assert found["builder project"].startswith("PackageCompiler 2.2.3 in ")
    assert found["hook"] == "not enabled" and found["layers"].startswith("1 layer,")
    assert "juliapkg" in found["versions"] and sys.executable in found["Python"]
    assert f"on image {image.id}" in found["start"]
    assert not list(Path(world.store.recordings(world.environment.id)).glob("*")), "its start is no run of a program"


def test_lines_for_people(world):
    world.publish(juliacall="0.9.1")
    result = doctor(environ_of(world))
    lines = result.stdout.splitlines()
    assert lines[0] == f"ok   store: {world.store.home}, yours alone to write"
    assert lines[-1].startswith("All ") and lines[-1].endswith(" checks are fine.")
    assert any(line.endswith("not used: juliacall 0.9.1 in the image, 0.9.37 installed") for line in lines)
    assert "\x1b" not in result.stdout


def test_a_bit_that_flipped_is_found_and_the_image_condemned(world):
    image = world.publish(b"0123456789")
    with open(image.path, "r+b") as file:
        file.seek(5)
        file.write(b"?")
    status, checks = checks_of(world)
    assert status == 1
    assert "checksum" in checks[f"image {image.id}"]["found"] and checks[f"image {image.id}"]["remedy"]
    assert "checksum" in (world.store.condemned(image.id) or "")


def test_a_broken_machine(world, tmp_path):
    shutil.rmtree(world.project)
    (world.project).mkdir()
    world.store.ensure(world.store.root)
    os.chmod(world.store.home, 0o777)
    (tmp_path / "builder" / "Manifest.toml").unlink()
    for program in ("cat", "sh"):  # what the stand-in Julia needs, but no compiler
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / program).symlink_to(shutil.which(program) or "")
    environ = environ_of(world, PATH=str(tmp_path / "bin"))
    del environ["JULIA_CC"]
    result = doctor(environ, "--json")
    checks = {check["what"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.returncode == 1
    for what in ("store", "linker", "Julia project", "builder project"):
        assert not checks[what]["ok"] and checks[what]["remedy"], what
    lines = doctor(environ).stdout.splitlines()
    bad = next(n for n, line in enumerate(lines) if line.startswith("bad  linker: none"))
    assert lines[bad + 1].startswith("     -> no C compiler: ")
    assert lines[-1] == f"{sum(not check['ok'] for check in checks.values())} of {len(checks)} checks are bad."


def test_where_julia_has_its_own_linker_no_compiler_is_missed(world, tmp_path):
    """On Linux, in an image like python:slim."""
    linker = tmp_path / "julia" / "libexec" / "julia" / "lld"
    linker.parent.mkdir(parents=True)
    linker.write_text("#!/bin/sh\necho LLD 18.1\n")
    linker.chmod(0o755)
    (tmp_path / "bin").mkdir()
    for program in ("cat", "sh"):
        (tmp_path / "bin" / program).symlink_to(shutil.which(program) or "")
    environ = environ_of(world, PATH=str(tmp_path / "bin"))
    del environ["JULIA_CC"]
    checks = {check["what"]: check for check in json.loads(doctor(environ, "--json").stdout)["checks"]}
    assert checks["linker"]["ok"] and checks["linker"]["found"] == f"{linker} (LLD 18.1)"


def test_without_julia(no_julia_environ, tmp_path):
    result = doctor({**no_julia_environ, "PYJL_AUTOIMAGE_HOME": str(tmp_path / "store")})
    assert result.returncode == 1
    assert "bad  Julia" in result.stdout and "Traceback" not in result.stderr
    assert "ok   hook" in result.stdout, "the rest is looked at nonetheless"


def test_versions_that_do_not_agree(world):
    world.write_manifest(extra=PYTHONCALL.replace("0.9.37", "0.9.20"))
    status, checks = checks_of(world, "--no-start")
    assert status == 1 and checks["PythonCall"]["found"] == "PythonCall 0.9.20, juliacall 0.9.37"
    assert "resolve" in checks["PythonCall"]["remedy"]


def test_what_is_worth_knowing_of_julia_is_no_fault(world):
    world.write_julia(replace(world.facts, version="1.13.1"))
    check = checks_of(world, "--no-start")[1]["Julia"]
    assert check["ok"] and check["remedy"] == versions.about_julia("1.13.1")


@pytest.mark.parametrize(("openssl", "told"), [((3, 0, 13, 0, 0), True), ((3, 5, 1, 0, 0), False)])
def test_why_juliapkg_takes_an_old_julia(world, monkeypatch, openssl, told):
    monkeypatch.setattr("ssl.OPENSSL_VERSION_INFO", openssl)
    environment = replace(world.environment, managed=True)
    about = "; ".join(doctor_module._about_julia(environment, replace(world.facts, version="1.11.9")))
    assert ("juliapkg would take a newer one" in about) is told


def test_a_python_that_cannot_work_is_a_fault_with_another_to_use(monkeypatch):
    monkeypatch.setattr("platform.python_implementation", lambda: "PyPy")
    check = doctor_module._python()
    assert not check.ok and "PyPy" in check.found and "use CPython 3.10 or later" in check.remedy


def test_a_free_threaded_python_is_named(monkeypatch):
    monkeypatch.setattr("sys.version", f"{sys.version} free-threading build")
    monkeypatch.setattr("sys.version_info", (3, 14, 2, "final", 0))
    check = doctor_module._python()
    assert check.ok and " free-threaded, " in check.found and "experimental" in check.remedy


@pytest.mark.parametrize(
    ("targets", "meant"),
    [
        ("generic,haswell", "generic;haswell"),
        ("x86_64,haswell,znver3,native", "x86_64;haswell;znver3;native"),
        ("generic, skylake-avx512,clone_all", "generic;skylake-avx512,clone_all"),
        ("generic,cortex-a57;apple-m1,neoverse-n1", "generic;cortex-a57;apple-m1;neoverse-n1"),
        ("generic,x86-64-v3", "generic;x86-64-v3"),
    ],
)
def test_commas_between_cpu_targets(world, targets, meant):
    for where in ("JULIA_CPU_TARGET", "PYJL_AUTOIMAGE_CPU_TARGET"):
        check = checks_of(world, "--no-start", **{where: targets})[1]["CPU targets"]
        assert not check["ok"] and check["found"].startswith(f"{where}={targets}: ")
        assert check["remedy"] == f"separate targets by semicolons: {meant}"


@pytest.mark.parametrize(
    "targets",
    [
        *julia.PORTABLE_TARGETS.values(),
        "native",
        "generic",
        "haswell,+avx2,-rdrnd,sse4.1,base(0),opt_size",
        "generic;znver3,-avx512f,min_size",
        "apple-m1,apple-a7-sysreg",
        "haswell,",
    ],
)
def test_commas_before_features(targets, monkeypatch):
    monkeypatch.setenv("JULIA_CPU_TARGET", targets)
    check = doctor_module._cpu_targets(Settings(cpu_target=targets))
    assert check.ok and not check.remedy


def test_a_packagecompiler_that_is_too_old_for_this_julia(world):
    world.write_julia(replace(world.facts, version="1.13.1"))
    check = checks_of(world, "--no-start")[1]["builder project"]
    assert not check["ok"] and "2.2.3" in check["found"] and "2.4.5 or later" in check["found"]
    assert check["remedy"] == f"`Pkg.update()` in {world.root / 'builder'}"


def test_one_of_our_own_is_brought_up_to_date_by_the_next_build(world):
    facts = replace(world.facts, version="1.13.1")
    project = packagecompiler.own_builder_project(world.store, facts)
    world.store.ensure(project)
    (Path(project) / "ready").touch()
    (Path(project) / "Manifest.toml").write_text(BUILDER_MANIFEST)
    check = doctor_module._builder_project(Settings(), world.store, facts)
    assert check.ok and check.found.startswith("PackageCompiler 2.2.3 in ")
    assert check.remedy.endswith("it needs 2.4.5 or later: the next build sees to it")


@pytest.mark.parametrize(("prints", "ok"), [("", False), ("/usr/lib/libpython3.so", True)])
def test_libpython(world, prints, ok):
    source = pythoncall(world)
    (source / "src" / "C").mkdir(parents=True)
    (source / "src" / "C" / "find_libpython.py").write_text(f"print({prints!r})")
    check = checks_of(world, "--no-start")[1]["libpython"]
    assert check["ok"] is ok and bool(check["remedy"]) is not ok
    assert prints in check["found"]


def test_an_error_that_the_hook_kept_from_a_program(world):
    world.store.ensure(world.store.root)
    Path(world.store.hook_log).write_text("2026-01-02 03:04:05 /usr/bin/python3\nTraceback\nValueError: broken\n")
    check = checks_of(world, "--no-start")[1]["hook"]
    assert check["ok"], "what is not enabled troubles nobody"
    assert check["found"].endswith("/usr/bin/python3: ValueError: broken")
    assert world.store.hook_log in check["remedy"]


@pytest.mark.parametrize(
    ("error", "ok"),
    [("ValueError: broken", False), ("pyjl_autoimage.errors.SettingsError: PYJL_X is not a setting", True)],
)
def test_an_error_of_the_enabled_hook_counts_while_it_can_come_again(world, monkeypatch, error, ok):
    from pyjl_autoimage.hook import enable

    world.store.ensure(world.store.root)
    Path(world.store.hook_log).write_text(f"2026-01-02 03:04:05 python3\nTraceback\n{error}{'x' * 5000}\n")
    monkeypatch.setattr(enable, "enabled", lambda: "/somewhere/hook.pth")
    check = doctor_module._hook(world.store)
    assert check.ok is ok and check.remedy and len(check.found) < 400


def test_a_build_that_failed(world):
    world.store.ensure(world.store.environment(world.environment.id))
    error = "PackageCompiler failed (status 1):\nERROR: the sky fell\nStacktrace"
    State("t", mark_name(), state="failed", error=error, finished=time.time()).write(
        world.store, world.environment.id
    )
    check = checks_of(world, "--no-start")[1]["last build"]
    assert not check["ok"] and check["found"] == "failed just now: ERROR: the sky fell"


def test_recordings_that_cannot_be_written(world):
    directory = world.store.ensure(world.store.recordings(world.environment.id))
    forbid_writing(directory)
    assert not checks_of(world, "--no-start")[1]["recordings"]["ok"]


def test_a_start_that_dies(world):
    stub = world.site / "juliacall" / "__init__.py"
    stub.write_text("import sys; print('ERROR: no space left', file=sys.stderr); sys.exit(3)")
    check = checks_of(world)[1]["start"]
    assert not check["ok"] and check["found"] == "it ended with status 3: ERROR: no space left"
    stub.write_text("import os; os.kill(os.getpid(), 6)")
    assert "it died of SIGABRT" in checks_of(world)[1]["start"]["found"]


def test_what_is_switched_off_is_not_well(world):
    status, checks = checks_of(world, "--no-start", PYJL_AUTOIMAGE="0")
    assert status == 1 and not checks["settings"]["ok"]
    assert "enabled=False (PYJL_AUTOIMAGE)" in checks["settings"]["found"]


# -- the report --------------------------------------------------------------------------------------------

SECRETS = {
    "JULIA_PKG_TOKEN": "tokentokentoken",
    "MY_PASSWORD": "hunter2hunter2",
    "JULIA_PKG_SERVER": "https://me:mysecret@pkg.example.org/x",
    "SOMETHING_ELSE": "of no concern",
}


def test_the_report_holds_everything_but_secrets(world, tmp_path):
    home = tmp_path  # everything of this world lies in it
    environ = {**environ_of(world), **SECRETS, "HOME": str(home)}
    world.record(f"{home}/program.py", 1.0, 2.0)
    world.store.ensure(world.store.environment(world.environment.id))
    error = f"ERROR: {home}/x: password={SECRETS['MY_PASSWORD']} refused by {SECRETS['JULIA_PKG_SERVER']}"
    State("t", mark_name(), state="failed", error=error).write(world.store, world.environment.id)
    file = tmp_path / "report.txt"
    result = doctor(environ, "--report", str(file))
    assert result.returncode == 1 and f"is in {file}" in result.stdout
    text = file.read_text()
    for secret in ("tokentokentoken", "hunter2hunter2", "mysecret", "of no concern", "JULIA_PKG_TOKEN", str(home)):
        assert secret not in text, secret
    for told in (
        "BAD  last build: failed",
        "https://***@pkg.example.org/x",
        "PYTHON_JULIACALL_EXE=~/julia/bin/julia",
        '"program": "~/program.py"',
        "PackageCompiler 2.2.3",
        "s  juliacall",
    ):
        assert told in text, told
    assert os.stat(file).st_mode & 0o077 == 0


def test_the_report_as_json(world, tmp_path):
    file = tmp_path / "report.json"
    assert doctor(environ_of(world), "--no-start", "--report", str(file)).returncode == 0
    found = json.loads(file.read_text())
    assert set(found) == {"pyjl_autoimage", "made", "checks", "options", "status", "environment"}
    assert found["status"]["summary"]["state"] == "nothing" and "session" not in found["status"]


def test_the_report_where_there_is_no_julia(no_julia_environ, tmp_path):
    environ = {**no_julia_environ, "PYJL_AUTOIMAGE_HOME": str(tmp_path / "store")}
    result = doctor(environ, "--report", "-")
    assert result.returncode == 1 and "## Checks" in result.stdout
    assert '\nerror: "' in result.stdout and "Traceback" not in result.stderr


def test_what_the_system_refuses_is_one_of_its_lines(world, monkeypatch):
    def refuse() -> None:
        raise PermissionError(13, "Permission denied", "/here")

    monkeypatch.setattr(doctor_module, "_python", refuse)
    last = list(doctor_module.examine(start=False))[-1]
    assert not last.ok and last.found.startswith("Permission denied: /here")


def test_a_report_that_cannot_be_written(world, tmp_path):
    result = doctor(environ_of(world), "--no-start", "--report", str(tmp_path / "nowhere" / "report.txt"))
    assert result.returncode == 1 and "cannot be written" in result.stderr


def test_internals_that_a_julia_lacks_are_named(world):
    lacks = ("Base.package_callbacks: they are not recorded", "Base.compilecache: no layer is built")
    world.write_julia(replace(world.facts, lacks=lacks))
    check = checks_of(world, "--no-start")[1]["Julia"]
    assert check["ok"] and check["remedy"] == "; ".join(f"it lacks {lack}" for lack in lacks)
