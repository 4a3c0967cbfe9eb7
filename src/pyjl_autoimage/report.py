"""What people and programs get to see: the status, the progress of a build, sizes and times in words."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import choice, jobs, profile, runtime, settings, sitehook
from .environment import Environment, locate
from .errors import AutoimageError
from .image import Situation
from .jobs import Progress, State
from .options import code_flags, user_options
from .settings import Settings
from .store import Store, read_json

__all__ = ["bytes_text", "seconds_text", "show_status", "status", "stdout_to_stderr", "watcher"]


RUNS_SHOWN = 5


def status(**keywords: Any) -> dict[str, Any]:
    """How things stand for this program's environment. Changes nothing, installs nothing.

    Args:
        keywords: any field of `pyjl_autoimage.settings.Settings`; the environment wins over them.

    Returns:
        Plain data with the keys ``environment`` (julia_version, executable, project, id), ``image`` (None, or
        id, path, built_at, bytes, packages, statements), ``rejected`` (id and reasons of each image that is
        not valid here), ``layers`` (id, program, reasons why it is not used, ...), ``profile`` (statements,
        recordings, packages), ``runs`` (the latest: what each still compiled and what that cost), ``build``
        (state, log, ...), ``session`` (what became of start-up in this process), ``hook`` (enabled: the file that
        puts it into every program of this Python, or None; error: what it last kept from a program) and ``store``.

    Raises:
        JuliaNotFoundError: there is no usable Julia, or its project has not been set up.
        SettingsError: a setting has an unknown name or a bad value.
    """
    settled = settings.settle(keywords)
    with stdout_to_stderr():
        options = user_options()
        environment = locate(options, install=False)
        return _status(settled, environment, code_flags(options))


def _status(settled: Settings, environment: Environment, flags: dict[str, str]) -> dict[str, Any]:
    store = Store(settled.home)
    facts = choice.julia_facts(environment, store)
    recorded = profile.peek(store, environment.id)
    chosen, rejected = _images(store, environment, flags, settled.trusted_stores)
    state = State.read(store, environment.id)
    return {
        "environment": {
            "id": environment.id,
            "julia_version": facts.version,
            "executable": environment.executable,
            "project": environment.project,
        },
        "image": chosen,
        "rejected": rejected,
        "layers": _layers(store, environment, flags, chosen["id"] if chosen else None),
        "profile": {
            "statements": len(recorded.statements),
            "recordings": recorded.runs,
            "packages": sorted(package.name for package in recorded.packages.values()),
        },
        "runs": [
            {
                "program": run.program,
                "started": run.started,
                "image": run.image,
                "layer": run.layer,
                "ready_seconds": run.ready,
                "statements": run.statements,
                "compile_seconds": run.compiled,
            }
            for run in sorted(recorded.recent.values(), key=lambda run: run.started, reverse=True)[:RUNS_SHOWN]
        ],
        "build": {
            "state": state.state if state else "none",
            "log": store.build_log(environment.id) if state else None,
            "phase": state.phase if state else None,
            "error": (state.error or None) if state else None,
            "started": state.started if state else None,
            "finished": (state.finished or None) if state else None,
            "left_out": state.left_out if state else {},
            "workloads": state.workloads if state else [],
            "notes": state.notes if state else [],
            "automatic": settled.auto_rebuild,
            "automatic_decision": (read_json(store.automatic(environment.id)) or {}).get("why"),
        },
        "session": {
            "started": runtime.session.plan is not None,
            "on_image": runtime.session.on_image,
            "recording": runtime.session.recording.trace if runtime.session.recording else None,
            "notes": list(runtime.session.notes),
        },
        "hook": {"enabled": sitehook.enabled(), "error": sitehook.last_error(store)},
        "store": store.home,
    }


def _images(
    store: Store, environment: Environment, flags: dict[str, str], trusted: tuple[str, ...]
) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    chosen: dict[str, Any] | None = None
    rejected = []
    situation: Situation | AutoimageError | ValueError | None = None
    others = [image for image in store.all_images() if image.environment != environment.id]
    for image in [*choice.images_of(environment, store, trusted), *others]:
        if image.environment != environment.id:
            reasons = [f"built for another environment ({image.project})"]
        else:
            if situation is None:
                try:
                    situation = choice.situation_of(environment, store, flags)
                except (AutoimageError, ValueError) as error:
                    situation = error
            if isinstance(situation, Situation):
                reasons = choice.reasons_against(image, situation, store, trusted=trusted)
            else:
                reasons = [str(situation)]
        if not reasons and chosen is not None:
            reasons = [f"a newer image is in use ({chosen['id']})"]
        if reasons:
            rejected.append({"id": image.id, "reasons": reasons})
            continue
        chosen = {
            "id": image.id,
            "path": image.path,
            "built_at": image.built_at,
            "bytes": image.bytes,
            "packages": [{"name": package.name, "version": package.version} for package in image.packages],
            "statements": image.statements,
        }
    return chosen, rejected


def _layers(store: Store, environment: Environment, flags: dict[str, str], image: str | None) -> list[dict[str, Any]]:
    layers = [layer for layer in store.all_layers() if layer.environment == environment.id]
    if not layers:
        return []
    try:
        situation = choice.situation_of(environment, store, flags)
    except (AutoimageError, ValueError) as error:
        return [{"id": layer.id, "program": layer.program, "reasons": [str(error)]} for layer in layers]
    return [
        {
            "id": layer.id,
            "program": layer.program,
            "built_at": layer.built_at,
            "bytes": layer.bytes,
            "statements": layer.statements,
            "code": [code.path for code in layer.code],
            "reasons": choice.reasons_against_layer(layer, image, situation, store),
        }
        for layer in layers
    ]


@contextlib.contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """What juliapkg, and the Julias that it starts, print must not mix with what we print for programs."""
    sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:
        yield
        return
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


# -- words ---------------------------------------------------------------------------------------------


def bytes_text(number: float) -> str:
    """A size in words: ``312 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def seconds_text(seconds: float) -> str:
    """A time in words: ``4 min 05 s``, ``12 s``, ``0.31 s``, ``4.2 ms``."""
    if 0 < seconds < 0.1:
        return f"{1000 * seconds:.1f} ms"
    if seconds >= 60:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2f} s"


def ago_text(moment: float) -> str:
    """How long ago a moment was: ``3 minutes ago``."""
    seconds = max(0.0, time.time() - moment)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


# -- the status, for people ----------------------------------------------------------------------------


def show_status(data: dict[str, Any], console: Any) -> None:
    """Print a status for a person."""
    from rich.markup import escape
    from rich.table import Table

    environment, image, recorded, build = (data[k] for k in ("environment", "image", "profile", "build"))
    if image:
        console.print(f"[bold green]Fast.[/] The next start uses image [bold]{image['id']}[/].")
    elif recorded["recordings"]:
        console.print("[bold yellow]Slow.[/] There is no valid image; build one: [bold]pyjl-autoimage build[/]")
    else:
        console.print(
            "[bold yellow]Slow.[/] Nothing has been recorded and there is no image. Run your program "
            "([bold]pyjl-autoimage run script.py[/]), then [bold]pyjl-autoimage build[/]."
        )
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Julia", f"{environment['julia_version']}  {escape(environment['executable'])}")
    table.add_row("project", escape(environment["project"]))
    if image:
        packages = [p["name"] for p in image["packages"]]
        table.add_row(
            "image",
            f"built {ago_text(image['built_at'])}, {bytes_text(image['bytes'])}, "
            f"{len(packages)} packages, {image['statements']} statements",
        )
    table.add_row(
        "profile",
        f"{recorded['statements']} statements from {recorded['recordings']} recorded runs"
        + (f"; loaded: {escape(', '.join(recorded['packages'][:12]))}" if recorded["packages"] else ""),
    )
    for layer in data["layers"]:
        if not layer["reasons"]:
            what = ", ".join([f"{layer['statements']} statements", *map(os.path.basename, layer["code"])])
            program = escape(layer["program"] or "interactive use")
            table.add_row("layer", f"built {ago_text(layer['built_at'])} for {program}: {escape(what)}")
    for run in data["runs"][:1]:
        table.add_row("last run", escape(_run_text(run)))
    table.add_row("build", _build_text(build))
    if build["automatic"]:
        why = build["automatic_decision"]
        table.add_row("automatic", f"on{f'; last decision: {escape(str(why))}' if why else ''}")
    for name, why in build["left_out"].items():
        table.add_row("left out", f"{escape(name)}: {escape(why)}")
    table.add_row("hook", escape(_hook_text(data["hook"])))
    table.add_row("store", escape(data["store"]))
    console.print(table)
    for entry in data["rejected"]:
        console.print(f"[dim]image {entry['id']} is not used:[/] {escape(entry['reasons'][0])}")
        for reason in entry["reasons"][1:4]:
            console.print(f"    {escape(reason)}")
        if len(entry["reasons"]) > 4:
            console.print(f"    and {len(entry['reasons']) - 4} more reasons")


def _run_text(run: dict[str, Any]) -> str:
    """What the last run compiled in spite of image and layer, and what that cost."""
    on = f"on image {run['image']}" if run["image"] else "on the layer" if run["layer"] else "without an image"
    started = f", up after {seconds_text(run['ready_seconds'])}" if run["ready_seconds"] else ""
    cost = f", {seconds_text(run['compile_seconds'])} of compilation" if run["compile_seconds"] else ""
    return f"{ago_text(run['started'])}, {on}{started}; it still compiled {run['statements']} methods{cost}"


def _hook_text(hook: dict[str, Any]) -> str:
    text = f"enabled by {hook['enabled']}" if hook["enabled"] else "not enabled"
    if hook["error"]:
        lines = hook["error"].splitlines()
        text += f"\nlast error ({lines[0]}): {lines[-1]}"
    return text


def _build_text(build: dict[str, Any]) -> str:
    from rich.markup import escape

    if build["state"] == "none":
        return "none yet"
    if build["state"] == "running":
        return f"running ({build['phase']}) since {ago_text(build['started'])}; log: {escape(build['log'])}"
    text = f"last one {build['state']} {ago_text(build['finished'] or build['started'])}"
    if build["error"]:
        lines = build["error"].splitlines()
        said = next((line for line in lines if line.startswith("ERROR")), lines[0])
        text += f": {escape(said)}\nlog: {escape(build['log'])}"
    return text


# -- the progress of a build ---------------------------------------------------------------------------


@contextlib.contextmanager
def watcher(console: Any) -> Iterator[Callable[[Progress], None]]:
    """Something to give to `Build.wait`: a bar in a terminal, a line per phase in a pipe."""
    if not console.is_terminal:
        yield _plain_watcher(console)
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("[bold]{task.fields[phase]:<12}"),
        BarColumn(bar_width=None),
        TextColumn("{task.percentage:3.0f}%"),
        TextColumn("[dim]{task.fields[times]}"),
        TextColumn("[dim]{task.fields[detail]}"),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task("build", total=1.0, phase="starting", times="", detail="")

        def watch(progress: Progress) -> None:
            bar.update(
                task,
                completed=progress.fraction,
                phase=progress.phase,
                times=f"{seconds_text(progress.elapsed)} of about {seconds_text(progress.expected)}",
                detail=progress.detail,
            )

        yield watch


def _plain_watcher(console: Any) -> Callable[[Progress], None]:
    seen: list[str] = []

    def watch(progress: Progress) -> None:
        if progress.state == "running" and progress.phase in jobs.PHASES and progress.phase not in seen[-1:]:
            seen.append(progress.phase)
            console.print(f"{seconds_text(progress.elapsed):>12}  {progress.phase}")

    return watch
