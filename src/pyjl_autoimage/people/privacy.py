"""What strangers may see: `doctor --report`, and any text without secrets and without who and where somebody is."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from ..base.program import __version__
from ..base.settings import Settings, env_name
from ..errors import AutoimageError
from .doctor import Check
from .status import status

__all__ = ["gather", "shown_environment", "text", "without_secrets"]


# -- the report ------------------------------------------------------------------------------------------


def gather(checks: Iterable[Check], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What `doctor` found, and all else that whoever reads an issue would ask for, as plain data without secrets.

    Args:
        checks: what `pyjl_autoimage.people.doctor.examine` gave.
        environ: the variables (``os.environ`` when None).

    Raises:
        SettingsError: a setting has an unknown name or a bad value.
    """
    environ = os.environ if environ is None else environ
    try:
        stands: dict[str, Any] = status()
        del stands["session"]  # of this process, which starts nothing
    except (AutoimageError, OSError) as error:
        stands = {"error": str(error)}
    options = sorted(sys._xoptions.items())
    found = {
        "pyjl_autoimage": __version__,
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "checks": [asdict(check) for check in checks],
        "options": [f"-X {name}={value}" for name, value in options if _as_variable(name) in SHOWN],
        "status": stands,
    }
    return {**without_secrets(found, environ), "environment": shown_environment(environ)}


def _as_variable(option: str) -> str:
    """The variable that says the same as an option of juliacall or juliapkg."""
    return f"PYTHON_{option.upper().replace('-', '_')}"


def text(found: Mapping[str, Any]) -> str:
    """A report for people, as a text that can be pasted into an issue."""
    lines = [
        f"pyjl_autoimage {found['pyjl_autoimage']}, doctor's report of {found['made']}",
        "",
        "## Checks",
        "",
        "```text",
    ]
    for check in found["checks"]:
        mark = "ok " if check["ok"] else "BAD"
        lines.append(f"{mark}  {check['what']}: {_indented(check['found'])}")
        if check["remedy"]:
            lines.append(f"     -> {_indented(check['remedy'])}")
    lines += ["```", "", "## Environment", "", "```text"]
    lines += [f"{name}={value}" for name, value in found["environment"].items()]
    lines += found["options"]
    lines += ["```", "", "## Status", "", "```text"]
    lines += [f"{name}: {json.dumps(_with_short_lists(value))}" for name, value in found["status"].items()]
    return "\n".join([*lines, "```", ""])


def _with_short_lists(value: Any) -> Any:
    """Packages as a line of text: what is read by people need not name the parts of each."""
    if isinstance(value, list):
        return [_with_short_lists(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _names_of(inner) if name == "packages" and isinstance(inner, list) else _with_short_lists(inner)
        for name, inner in value.items()
    }


def _names_of(packages: Iterable[Any]) -> str:
    parts = (p if not isinstance(p, dict) else f"{p.get('name')} {p.get('version') or ''}".rstrip() for p in packages)
    return ", ".join(map(str, parts))


def _indented(said: str) -> str:
    return said.replace("\n", "\n     ")


# -- variables: by name, for what a variable is called says nothing of what is in it -----------------------


def _prefixed(prefix: str, names: str) -> Iterator[str]:
    return (f"{prefix}{name}" for name in names.split())


SHOWN = frozenset(
    [
        # Of the system, Python and conda
        *_prefixed("", "CI CONDA_PREFIX LD_LIBRARY_PATH LD_PRELOAD PATH PYTHONPATH VIRTUAL_ENV"),
        # This package
        *(env_name(setting.name) for setting in fields(Settings) if setting.name != "origins"),
        *_prefixed("_PYJL_AUTOIMAGE_", "OBSERVE WORKLOAD"),
        # juliacall (HOME: its option -X juliacall-home, as a variable BINDIR), juliapkg, PythonCall
        *_prefixed(
            "PYTHON_JULIACALL_",
            "AUTOLOAD_IPYTHON_EXTENSION BINDIR CHECK_BOUNDS COMPILE COMPILED_MODULES DEPWARN EXE HANDLE_SIGNALS "
            "HEAP_SIZE_HINT HOME INIT INLINE LIB MIN_OPTLEVEL OPTIMIZE PROCS PROJECT STARTUP_FILE SYSIMAGE THREADS "
            "TRACE_COMPILE TRACE_COMPILE_TIMING WARN_OVERWRITE",
        ),
        *_prefixed("PYTHON_JULIAPKG_", "CLI_ALWAYS_SHOW_PYTHON_ERROR EXE OFFLINE PROJECT"),
        *_prefixed("JULIA_PYTHONCALL_", "EXE LIB PICKLE"),
        *_prefixed(
            "JULIA_CONDAPKG_",
            "ALLOWED_CHANNELS BACKEND CHANNEL_MAPPING CHANNEL_ORDER CHANNEL_PRIORITY ENV EXE LIBSTDCXX_NG_VERSION "
            "LIBSTDCXX_VERSION OFFLINE OPENSSL_VERSION PIP_BACKEND VERBOSITY",
        ),
        # juliaup
        *_prefixed("JULIAUP_", "CHANNEL DEPOT_PATH SERVER"),
        # Julia: its manual's page of environment variables, 1.10 to 1.14, and what its sources read besides
        *_prefixed(
            "", "ENABLE_GDBLISTENER ENABLE_JITPROFILING FORCE_COLOR NO_COLOR OPENBLAS_NUM_THREADS UV_THREADPOOL_SIZE"
        ),
        *_prefixed(
            "JULIA_",
            "ALWAYS_VERIFY_HOSTS ANSWER_COLOR BINDIR CC CI COPY_STACKS CPU_TARGET CPU_THREADS DEBUG DEPOT_PATH "
            "EDITOR ERROR_COLOR EXCLUSIVE FALLBACK_REPL GC_ALLOC_OTHER GC_ALLOC_POOL GC_ALLOC_PRINT "
            "GC_NO_GENERATIONAL GC_WAIT_FOR_DEBUGGER HEAP_SIZE_HINT HISTORY IMAGE_THREADS IMAGE_TIMINGS "
            "INFO_COLOR INPUT_COLOR LLVM_ARGS LOAD_PATH MAX_NUM_PRECOMPILE_FILES NO_VERIFY_HOSTS NUM_GC_THREADS "
            "NUM_PRECOMPILE_TASKS NUM_THREADS OBJCACHE_PATH PKGRESOLVE_ACCURACY PKG_CONCURRENT_DOWNLOADS "
            "PKG_DEVDIR PKG_GC_AUTO PKG_IGNORE_HASHES PKG_OFFLINE PKG_PRECOMPILE_AUTO "
            "PKG_PRESERVE_TIERED_INSTALLED PKG_RESOLVE_ACCURACY PKG_SERVER PKG_SERVER_REGISTRY_PREFERENCE "
            "PKG_UNPACK_REGISTRY PKG_USE_CLI_GIT PROFILE_PEEK_HEAP_SNAPSHOT PROJECT SHELL SSH_NO_VERIFY_HOSTS "
            "SSL_CA_ROOTS_PATH SSL_NO_VERIFY_HOSTS STACKTRACE_CONTRACT_HOMEDIR STACKTRACE_EXPAND_BASEPATHS "
            "STACKTRACE_LINEBREAKS THREAD_SLEEP_THRESHOLD TIMING_METADATA_PRINT_LIMIT TIMING_SUBSYSTEMS "
            "USE_FLISP_PARSER VERBOSE_LINKING WAIT_FOR_TRACY WARN_COLOR WORKER_TIMEOUT",
        ),
    ]
)
"""The variables that a start or a build depends on: all that Julia, juliacall, juliapkg and this package read."""

_PATHS_SHOWN = 12


def shown_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that an issue report needs, by name."""
    shown = {name: environ[name] for name in sorted(SHOWN.intersection(environ))}
    if "PATH" in shown:
        shown["PATH"] = _shortened(shown["PATH"])
    return dict(without_secrets(shown, environ))


def _shortened(path: str) -> str:
    entries = path.split(os.pathsep)
    more = len(entries) - _PATHS_SHOWN
    return os.pathsep.join([*entries[:_PATHS_SHOWN], *([f"... and {more} more"] if more > 0 else [])])


# -- texts -----------------------------------------------------------------------------------------------

_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASS|CREDENTIAL|AUTH|PRIVATE|KEY|((^|_)(PAT|CREDS?|SIG|COOKIE)|_PWD)(?![A-Z])", re.IGNORECASE
)
_LEAST_SECRET = 6
"""Characters. What is shorter (``yes``, ``1``) is no secret, and would be found everywhere."""

_WORD = (
    r"(?:token|secret|passw(?:or)?d|passphrase|pwd|(?:api|access|account|private)[_-]?key|auth(?:orization)?|cookie"
    r"|credentials?|sig(?:nature)?(?==))"
)
_VALUE = r"(?:(?:bearer|basic)\s+)?['\"]?)(?:(?<=')[^']+|(?<=\")[^\"]+|[^\s'\"&,;]+)"
_SECRETS = [
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), shown)
    for pattern, shown in {
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)": "***",
        # What stands before the host of an address, and what is asked of it
        r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://)[^/\s'\"]+@": r"\1***@",
        r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://[^\s'\"<>?]*\?)[^\s'\"<>]+": r"\1***",
        r"(?<![\w.+-])[\w.+-]+(?=@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b)": "***",
        # What is said to be secret
        rf"({_WORD}['\"]?\s*[=:]\s*{_VALUE}": r"\1***",
        rf"((?<![\w-])--?[\w-]*{_WORD}\s+{_VALUE}": r"\1***",
        r"(\bbearer\s+)[\w.~+/=-]{8,}": r"\1***",
        # What looks like it: of GitHub, GitLab, Slack, AWS, Google, OpenAI, Hugging Face, npm, PyPI; JWT; digests
        r"\b(?:gh[pousr]_\w{6,}|github_pat_\w{6,}|gl(?:pat|ptt|dt|rt|cbt|ft|soat|imt|agent|oas)-[\w-]{6,}"
        r"|xox[a-z]-[\w-]{6,}|(?:AKIA|ASIA)[A-Z0-9]{12,}"
        r"|AIza[\w-]{30,}|(?:sk|pypi)-[\w-]{16,}|(?:hf|npm)_[a-z0-9]{16,}|eyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)?)": "***",
        r"(=['\"]?)[0-9a-f]{32,}\b": r"\1***",
    }.items()
]

_NOBODY = frozenset(
    _prefixed("", "root admin user users runner ubuntu debian docker vscode jovyan julia python home localhost")
)
"""Names of users and hosts that name nobody, and stand in any text."""

_HOMES = re.compile(r"((?:/home|/Users|\b[A-Z]:[\\/]+Users)[\\/]+)(?!\*)[^\\/\s'\":;,<>|()\[\]{}]+", re.IGNORECASE)
"""Where systems keep everybody's homes: also those of others."""


def without_secrets(value: Any, environ: Mapping[str, str]) -> Any:
    """A copy of a text, or of plain data, without what must not be shown.

    The home directory becomes ``~``. Names of the user and of this host, secrets in their usual forms, what stands
    before the host of a URL and behind its ``?``, and the values of variables whose names say that they are secret
    become ``***``. Keys that could be names of fields stay as they are.
    """
    clean = _cleaner(environ)

    def of(value: Any) -> Any:
        if isinstance(value, str):
            return clean(value)
        if isinstance(value, Mapping):
            return {key if str(key).isidentifier() else clean(str(key)): of(inner) for key, inner in value.items()}
        return [of(item) for item in value] if isinstance(value, (list, tuple)) else value

    return of(value)


def _cleaner(environ: Mapping[str, str]) -> Callable[[str], str]:
    secrets = [v for name, v in environ.items() if len(v) >= _LEAST_SECRET and _SECRET_NAME.search(name)]
    secrets = sorted((value for value in secrets if not os.path.exists(value)), key=len, reverse=True)
    home, names = _home(environ), _names(environ)

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        for pattern, shown in _SECRETS:
            text = pattern.sub(shown, text)
        text = home.sub("~", text) if home else text
        text = _HOMES.sub(r"\1***", text)
        return names.sub("***", text) if names else text

    return clean


def _home(environ: Mapping[str, str]) -> re.Pattern[str] | None:
    """The home directory, however its separators are written."""
    given = filter(None, (environ.get("HOME"), environ.get("USERPROFILE")))
    places = {place.rstrip("\\/") for one in given for place in (one, os.path.realpath(one))} - {""}
    ways = (re.split(r"[\\/]+", place) for place in sorted(places, key=len, reverse=True))
    written = "|".join(r"[\\/]+".join(map(re.escape, parts)) for parts in ways)
    return re.compile(rf"(?<![\w.-])(?:{written})(?![\w.-])", re.IGNORECASE) if written else None


def _names(environ: Mapping[str, str]) -> re.Pattern[str] | None:
    """The user's and the host's names, as words."""
    homes = (
        re.search(r"[\\/](?:home|users)[\\/]+([^\\/]+)", f"{environ.get(n)}", re.I) for n in ("HOME", "USERPROFILE")
    )
    users = (environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER"))
    hosts = [environ.get(name, "") for name in ("HOSTNAME", "HOST", "COMPUTERNAME", "USERDOMAIN")]
    hosts.append(platform.node())
    found = {*users, *hosts, *(h.partition(".")[0] for h in hosts), *(home[1] for home in homes if home), _login()}
    named = [re.escape(n) for n in sorted(found, key=len, reverse=True) if len(n) > 1 and n.lower() not in _NOBODY]
    # A letter may be the end of what a URL writes for a separator: %2F
    return re.compile(rf"(?:(?<![^\W_])|(?<=%[0-9A-F]{{2}}))(?:{'|'.join(named)})(?![^\W_])", re.I) if named else None


def _login() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except (ImportError, KeyError):
        return ""
