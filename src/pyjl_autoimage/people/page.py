"""``pyjl-autoimage report``: one HTML page that says it all, and asks no other host for anything."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from html import escape
from string import Template
from typing import Any

from ..base import settings
from ..base.program import PACKAGE
from ..base.settings import Settings
from ..base.words import bytes_text, count_text, moment_text, seconds_text
from ..build import history
from ..build.contents import Contents, contents
from ..build.measured import latest_program
from ..build.state import PHASES, State
from ..errors import AutoimageError
from ..explain import timeline
from ..explain.attribution import owner
from ..explain.explain import explain, last
from ..explain.measurement import KINDS, Explanation
from ..julia.environment import locate
from ..profile import recordings
from ..profile.profile import Profile
from ..startup.options import code_flags, user_options
from ..store import choice, validity
from ..store.built import Image
from ..store.places import Store
from .explanation import advice
from .privacy import without_secrets

__all__ = ["page"]

ROWS = 40
TEMPLATE = os.path.join(PACKAGE, "people", "page.html")


def page(*, measure: bool = True, tell: Callable[[str], None] = lambda text: None) -> str:
    """The page about this program's environment.

    Args:
        measure: run a start, plain and on the image (see `explain`); False shows the one that was measured last.
        tell: called with a line about what is being done.

    Returns:
        HTML. It can be given to others: no secrets, and no name of whoever it is about, are in it.

    Raises:
        JuliaNotFoundError: there is no usable Julia, or its project has not been set up.
        SettingsError: a setting has an unknown name or a bad value.
    """
    settled = settings.settle()
    store = Store(settled.home)
    options = user_options()
    environment = locate(options, install=measure, outdated=True)
    facts = validity.julia_facts(environment, store)
    explanation = explain(tell=tell) if measure else last(store, environment.id)
    recorded = recordings.peek(store, environment.id)
    program = latest_program(recorded) or ""
    image, why = _image(store, environment, program, code_flags(options), settled)
    held: Contents | str = "There is no valid image."
    if image is not None:
        tell("looking into the image")
        try:
            held = contents(store, image, environment, facts)
        except AutoimageError as error:
            held = str(error)
    builds = history.read(store, environment.id)
    return compose(
        julia_version=facts.version,
        project=environment.project,
        image=image,
        why=why,
        explanation=explanation,
        recorded=recorded,
        held=held,
        builds=builds,
    )


def _image(
    store: Store, environment: Any, program: str, flags: Mapping[str, str], settled: Settings
) -> tuple[Image | None, str]:
    """The image that a program's next start uses, or why it uses none."""
    trusted = settled.trusted_stores
    images = choice.best_first(environment, store, program, trusted)
    if not images:
        return None, ""
    try:
        situation = validity.situation_of(environment, store, flags)
    except (AutoimageError, ValueError) as error:
        return None, str(error)
    chosen = choice.best_valid(images, store, situation, trusted)
    own = [image for image in images if image.environment == environment.id]
    reasons = own and not chosen and validity.objections(own[0], situation, store, trusted=trusted)
    return chosen, next(iter(reasons or ()), "")


def compose(
    *,
    julia_version: str,
    project: str,
    image: Image | None,
    why: str,
    explanation: Explanation | None,
    recorded: Profile,
    held: Contents | str,
    builds: Sequence[State],
) -> str:
    """The page of what is known."""
    project, why, held = (without_secrets(known, os.environ) for known in (project, why, held))
    explanation = explanation and Explanation.from_json(without_secrets(explanation.to_json(), os.environ))
    builds = [replace(build, error=without_secrets(build.error, os.environ)) for build in builds]
    with open(TEMPLATE, encoding="utf-8") as file:
        template = Template(file.read())
    return template.substitute(
        when=escape(time.strftime("%Y-%m-%d %H:%M")),
        verdict="Fast" if image else "Slow",
        verdict_class="good" if image else "bad",
        summary=_summary(julia_version, project, image, why, recorded),
        start=_start(explanation),
        profile=_profile(recorded, explanation),
        contents=_contents(held),
        builds=_builds(builds),
    )


def _summary(julia_version: str, project: str, image: Image | None, why: str, recorded: Profile) -> str:
    facts = {"Julia": julia_version, "Project": project}
    if image:
        facts["Image"] = (
            f"{image.id}, built {moment_text(image.built_at)} in {seconds_text(image.build_seconds)}, "
            f"{bytes_text(image.bytes)}, {count_text(len(image.packages), 'package')}, "
            f"{count_text(image.statements, 'statement')}"
        )
    else:
        facts["Image"] = f"none is valid: {why}" if why else "none yet"
    runs = count_text(recorded.runs, "recorded run")
    facts["Profile"] = f"{count_text(len(recorded.statements), 'statement')} of {runs}"
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items())
    return f"<dl>{rows}</dl>"


def _start(explanation: Explanation | None) -> str:
    if explanation is None:
        return "<p>No start has been measured yet.</p>"
    named = timeline.ways(explanation)
    by_way = [one.by_kind() for one in named.values()]
    rows = [
        [KINDS[kind], *(_cell(of[kind]) for of in by_way)]
        for kind in KINDS
        if any(of[kind] >= 0.0005 for of in by_way)
    ]
    rows.append(["in all", *(_cell(one.total) for one in named.values())])
    parts = [
        f"<p>{escape(explanation.program)}; measured {escape(moment_text(explanation.measured_at))}.</p>",
        f'<div class="wide">{"".join(timeline.pieces(explanation))}</div>',
        _table(["What the time is spent on", *named], rows, last_is_total=True),
    ]
    roots = list(dict.fromkeys(root for one in named.values() for root in one.by_root()))
    if roots:
        rows = [[root, *(_loaded_cell(one.by_root().get(root, [])) for one in named.values())] for root in roots]
        parts.append(_table(["Loaded from outside the image (how many packages with it)", *named], rows))
    parts += [f'<p class="note">{escape(line)}</p>' for line in advice(explanation)]
    return "\n".join(parts)


def _cell(seconds: float) -> str:
    return seconds_text(seconds) if seconds >= 0.0005 else "-"


def _loaded_cell(packages: Sequence[Any]) -> str:
    if not packages:
        return "-"
    spent = sum(package.end - package.start for package in packages)
    return f"{seconds_text(spent) if spent >= 0.0005 else '< 1 ms'} ({len(packages)})"


def _profile(recorded: Profile, explanation: Explanation | None) -> str:
    if not recorded.statements:
        return "<p>Nothing has been recorded yet.</p>"
    plain = explanation.of("plain") if explanation else None
    measured = {one.statement: one.seconds for one in plain.statements} if plain else {}
    found: dict[str, list[Any]] = {}
    for text, statement in recorded.statements.items():
        entry = found.setdefault(owner(text), [0, 0.0, 0, []])
        seconds = statement.milliseconds / 1e3 or measured.get(text, 0.0)
        entry[0] += 1
        entry[1] += seconds
        entry[2] += seconds > 0
        entry[3].append((seconds, text))
    order = sorted(found, key=lambda package: (-found[package][1], -found[package][0]))
    most = max((entry[1] for entry in found.values()), default=0.0)
    rows = []
    for package in order[:ROWS]:
        count, seconds, known, statements = found[package]
        costly = without_secrets(sorted(statements, reverse=True)[:8], os.environ)
        inner = "".join(
            f"<li><code>{escape(timeline.shortened(text, 400))}</code> <b>{_cell(spent) if spent else ''}</b></li>"
            for spent, text in costly
        )
        more = f"<li>and {count - len(costly)} more</li>" if count > len(costly) else ""
        rows.append(
            f"<tr><th scope='row'><details><summary>{escape(package)}</summary><ul>{inner}{more}</ul></details></th>"
            f"<td>{count}</td><td>{f'{_cell(seconds)} ({known})' if known else '-'}</td>"
            f"<td class='bars'>{_bar(seconds / most if most else 0)}</td></tr>"
        )
    if order[ROWS:]:
        rest = [found[package] for package in order[ROWS:]]
        rows.append(
            f"<tr><th scope='row'>{len(rest)} others</th><td>{sum(entry[0] for entry in rest)}</td>"
            f"<td>{_cell(sum(entry[1] for entry in rest))}</td><td class='bars'></td></tr>"
        )
    how = "Costs are those that Julia noted when it was recorded"
    noted = any(statement.milliseconds for statement in recorded.statements.values())
    if not noted and plain is not None and plain.estimated:
        how = "Costs are estimates, from the plain start above: this Julia does not time single methods"
    return (
        f"<p class='note'>{how}; in parentheses, of how many statements they are known.</p>"
        f"{_head('Package', 'Statements', 'Cost', '')}<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _contents(held: Contents | str) -> str:
    if isinstance(held, str):
        return f"<p>{escape(held)}</p>"
    most = max((one.bytes for one in held.held), default=0) or 1
    shown, rest = held.held[:ROWS], held.held[ROWS:]
    rows = [[one.name, str(one.methods), bytes_text(one.bytes), _bar(one.bytes / most)] for one in shown]
    if rest:
        total = sum(one.bytes for one in rest)
        rows.append(
            [f"{len(rest)} others", str(sum(one.methods for one in rest)), bytes_text(total), _bar(total / most)]
        )
    code = sum(one.bytes for one in held.held)
    head = (
        f"<p>The file has {bytes_text(held.bytes)}: {bytes_text(code)} are native code of methods, "
        f"{bytes_text(held.data)} are data (modules, types, constants, Julia's intermediate code, tables).</p>"
    )
    return head + _table(["Native code", "Methods", "Size", ""], rows, bars=True)


def _builds(builds: Sequence[State]) -> str:
    if not builds:
        return "<p>No build has ended since builds are remembered.</p>"
    rows = []
    for build in reversed(builds):
        layers = count_text(len(build.layers), "layer") if build.layers else "-"
        made = f"image {build.image[:8]}" if build.image else layers
        result = f"failed: {build.error}" if build.state == "failed" and build.error else build.state
        size = bytes_text(build.bytes) if build.bytes else "-"
        rows.append([moment_text(build.started), seconds_text(build.finished - build.started), made, size, result])
    drawing = timeline.draw_builds(builds[-20:], PHASES)
    table = _table(["Began", "Took", "Made", "Size", "Result"], rows, kind="builds")
    return f'<div class="wide">{drawing}</div>{table}'


def _bar(share: float) -> str:
    return "" if share <= 0 else f'<span class="bar" style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></span>'


def _head(*names: str, kind: str = "") -> str:
    """The beginning of a table. A column without a name is one of bars."""
    cells = (f'<th scope="col">{escape(name)}</th>' if name else '<td class="bars"></td>' for name in names)
    return f'<div class="wide"><table class="{kind}"><thead><tr>{"".join(cells)}</tr></thead>'


def _table(
    head: Iterable[str],
    rows: Iterable[Sequence[str]],
    *,
    bars: bool = False,
    last_is_total: bool = False,
    kind: str = "",
) -> str:
    """A table; the first column names the row. Cells are text, but the last one where it is a bar."""
    rows = list(rows)
    lines = []
    for number, (first, *others) in enumerate(rows):
        bar = f'<td class="bars">{others.pop()}</td>' if bars else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in others)
        total = ' class="total"' if last_is_total and number == len(rows) - 1 else ""
        lines.append(f'<tr{total}><th scope="row">{escape(first)}</th>{cells}{bar}</tr>')
    return f"{_head(*head, kind=kind)}<tbody>{''.join(lines)}</tbody></table></div>"
