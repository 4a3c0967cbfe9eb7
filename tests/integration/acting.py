"""Small packages that do something as they are loaded, and programs that would notice if that were done otherwise."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from conftest import Place


@dataclass
class Package:
    """A package of ours."""

    number: int
    source: str
    needs: tuple[str, ...] = ()
    weak: dict[str, str] = field(default_factory=dict)
    """Extension -> what triggers it."""
    extensions: dict[str, str] = field(default_factory=dict)
    """Extension -> its source."""

    @property
    def uuid(self) -> str:
        return f"ac7109a0-0000-4000-8000-{self.number:012d}"


STANDARD = {
    "LinearAlgebra": "37e2e46d-f89d-539d-b4ee-838fcccc9c8e",
    "Random": "9a3f8284-a2c9-5f02-9a11-845980a1fd5c",
}

PACKAGES = {
    "Shade": Package(1, 'which() = "one"'),
    "Modal": Package(
        2,
        """
        using LinearAlgebra, Random
        const MODE = Ref("")
        function __init__()
            MODE[] = get(ENV, "MODAL_MODE", "default")
            BLAS.set_num_threads(1)
            Random.seed!(1)
            println(stderr, "Modal is here")
        end
        """,
        needs=("LinearAlgebra", "Random"),
    ),
    "Hinty": Package(
        3,
        r"""
        only_int(x::Int) = x
        loaded(id) = nothing
        struct Sink <: AbstractDisplay end
        const STARTS = Ref(0)
        function __init__()
            STARTS[] += 1
            Base.Experimental.register_error_hint((io, e, types, kw) -> e.f === only_int && print(io, "\nOUR HINT"), MethodError)
            push!(Base.package_callbacks, loaded)
            pushdisplay(Sink())
        end
        """,
    ),
    "Licensed": Package(
        4,
        """
        __init__() = haskey(ENV, "LICENSED_KEY") || error("no key for Licensed")
        answer() = 42
        """,
    ),
    "Layered": Package(
        5,
        """
        using Shade
        module Inner
            const READY = Ref(0)
            module Innermost
                import ..READY
                __init__() = READY[] = 10 * READY[] + 1
            end
            __init__() = READY[] = 10 * READY[] + 2
        end
        __init__() = Inner.READY[] = 10 * Inner.READY[] + 3
        ready() = Inner.READY[]
        """,
        needs=("Shade",),
    ),
    "Parent": Package(
        6,
        "describe(x) = \"something\"",
        weak={"ShadeExt": "Shade"},
        extensions={"ShadeExt": """
            import Parent, Shade
            const READY = Ref(false)
            __init__() = READY[] = true
            Parent.describe(::typeof(Shade.which)) = "a shade, $(READY[])"
            """},
    ),
    "Chooser": Package(
        7,
        """
        const CHOSEN = Ref("")
        function __init__()
            name = get(ENV, "CHOSEN", "Shade")
            CHOSEN[] = name
            Base.require(@__MODULE__, Symbol(name))
        end
        """,
        needs=("Shade", "Layered"),
    ),
    "Seeds": Package(
        8, "using Random\nconst OWN = Ref{Any}()\n__init__() = OWN[] = MersenneTwister()", needs=("Random",)
    ),
    "Resident": Package(9, "const WORK = Ref{Any}()\n__init__() = WORK[] = Timer(identity, 0; interval = 0.5)"),
    "Pirate": Package(
        10,
        """
        using Shade
        Base.length(::Nothing) = 7
        Base.show(io::IO, ::Val{:flag}) = print(io, "black")
        Base.div(a::String, b::String; sep = "/") = string(a, sep, b)
        Shade.which(n::Int) = "one and $n"
        shown(x) = sum(length, (x, x))
        """,
        needs=("Shade",),
    ),
}  # fmt: skip


def add_packages(place: Place, directory: Path) -> None:
    """Write the packages, and add them to the place's project: tracked by path."""
    project, manifest = Path(place.environment.project, "Project.toml"), Path(place.manifest.path)
    deps, entries = "", ""
    for name, package in PACKAGES.items():
        source = directory / name
        uuids = {need: PACKAGES[need].uuid if need in PACKAGES else STANDARD[need] for need in package.needs}
        weak = {need: PACKAGES[need].uuid for need in package.weak.values()}
        about = f'name = "{name}"\nuuid = "{package.uuid}"\nversion = "0.1.0"\n'
        write(source / "src" / f"{name}.jl", f"module {name}\n{textwrap.dedent(package.source)}\nend\n")
        write(
            source / "Project.toml",
            about + table("deps", uuids) + table("weakdeps", weak) + table("extensions", package.weak),
        )
        for extension, text in package.extensions.items():
            write(source / "ext" / f"{extension}.jl", f"module {extension}\n{textwrap.dedent(text)}\nend\n")
        deps += f'{name} = "{package.uuid}"\n'
        entries += f'\n[[deps.{name}]]\npath = "{source}"\nuuid = "{package.uuid}"\nversion = "0.1.0"\n'
        entries += f"deps = {list(package.needs)!r}\n".replace("'", '"') if package.needs else ""
        entries += f"weakdeps = {list(weak and package.weak.values())!r}\n".replace("'", '"') if weak else ""
        entries += table(f"deps.{name}.extensions", package.weak)
    known = manifest.read_text()
    for name, uuid in STANDARD.items():
        if f"[[deps.{name}]]" not in known:
            entries += f'\n[[deps.{name}]]\nuuid = "{uuid}"\n'
    project.write_text(project.read_text().replace("[deps]\n", f"[deps]\n{deps}", 1))
    manifest.write_text(known + entries)


def table(name: str, values: dict[str, str]) -> str:
    return f"[{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in values.items()) if values else ""


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


START = "import os, sys\nfrom pyjl_autoimage import jl\n"

# name -> a program. On an image it must print, on both streams, and end as it does on plain juliacall.
PROGRAMS = {
    "what is set between start and using": 'os.environ["MODAL_MODE"] = "fast"\njl.seval("using Modal")\nprint(jl.seval("Modal.MODE[]"))',
    "another program": 'jl.seval("using LinearAlgebra")\nprint(jl.seval("BLAS.get_num_threads()"))',
    "hooks are there once": """
jl.seval("using Hinty")
print(jl.seval('''
    let text = try; Hinty.only_int("x"); catch e; sprint(showerror, e); end
        (count("OUR HINT", text), count(==(Hinty.loaded), Base.package_callbacks),
         count(d -> d isa Hinty.Sink, Base.Multimedia.displays), Hinty.STARTS[])
    end'''))
""",
    "nobody's hooks": """
print(jl.seval('''
    string((length(Base.Multimedia.displays), [string(parentmodule(c)) for c in Base.package_callbacks
            if !startswith(string(parentmodule(c)), "AutoimageRecorder") && !startswith(string(parentmodule(c)), "Main.Autoimage")]))'''))
""",
    "an init that fails": """
try:
    jl.seval("using Licensed")
except Exception as error:
    print("caught", type(error).__name__, str(error).splitlines()[0])
jl.seval("using Licensed")
print(jl.seval("Licensed.answer()"), jl.seval("sum(1:10)"))
""",
    "inits in order": 'jl.seval("using Layered")\nprint(jl.seval("Layered.ready()"), jl.seval("Layered.Shade.which()"))',
    "an extension": """
jl.seval("using Parent")
print(jl.seval("Base.get_extension(Parent, :ShadeExt) === nothing"), jl.seval("Parent.describe(sum)"))
jl.seval("using Shade")
print(jl.seval("Base.get_extension(Parent, :ShadeExt) === nothing"), jl.seval("Parent.describe(Shade.which)"))
""",
    "an extension, the other way": """
jl.seval("using Layered; using Parent")
print(jl.seval("Parent.describe(Layered.Shade.which)"))
""",
    "an init that loads": """
os.environ["CHOSEN"] = "Layered"
jl.seval("using Chooser")
print(jl.seval("Chooser.CHOSEN[]"), jl.seval("Layered = Base.loaded_modules[Base.identify_package(\\"Layered\\")]; Layered.ready()"))
""",
    "what is loaded": """
HERE = '''join(sort!([k.name for k in keys(Base.loaded_modules)
                      if k.uuid !== nothing && k.name != "AutoimageRecorder" && !startswith(k.name, "AutoimageStatements_")]), " ")'''
before = set(jl.seval(HERE).split())
print("Shade" in before, "DataFrames" in before)
for name in ("Layered", "Chooser", "DataFrames"):
    jl.seval(f"using {name}")
    after = set(jl.seval(HERE).split())
    print(name, *sorted(after - before))
    before = after
print(jl.seval("length(Base.loaded_modules_order) == length(unique(Base.loaded_modules_order))"))
""",
    "who watches packages": """
jl.seval("const SEEN = String[]")
jl.seval("push!(Base.package_callbacks, id -> push!(SEEN, id.name))")
jl.seval("using Layered, DataFrames")
print(*sorted(str(name) for name in jl.SEEN))
""",
    "where packages come from": """
jl.seval("using DataFrames, Layered")
print(jl.seval('''join(sort!([string(k.name, " ", pathof(m), " ", pkgdir(m), " ", pkgversion(m))
                             for (k, m) in Base.loaded_modules if k.name in ("DataFrames", "Layered", "Shade", "Tables")]), "\\n")'''))
print(jl.seval('string(which(DataFrames.nrow, (DataFrame,)).file)'), len(jl.seval('string(@doc DataFrames.nrow)')) > 50)
""",
    "another project": """
jl.seval(f'import Pkg; Pkg.activate(raw"{os.environ["OTHER"]}"; io = devnull)')
jl.seval("using Shade")
print(jl.seval("Shade.which()"))
""",
    "another project, what needs it": """
jl.seval(f'import Pkg; Pkg.activate(raw"{os.environ["OTHER"]}"; io = devnull)')
jl.seval("using Layered")
print(jl.seval("Layered.ready()"), jl.seval("Layered.Shade.which()"))
""",
    "developed in the program": """
jl.seval("import Pkg; Pkg.activate(temp = true, io = devnull)")
jl.seval(f'Pkg.develop(path = raw"{os.environ["OTHER"]}/Shade", io = devnull)')
jl.seval("using Shade")
print(jl.seval("Shade.which()"))
""",
    "a child without our variables": """
print(jl.seval('''
    let keep = Dict("PATH" => ENV["PATH"], "HOME" => get(ENV, "HOME", "/tmp"))
        read(setenv(`$(Base.julia_cmd()) --startup-file=no -e "print(1 + 1)"`, keep), String)
    end'''))
""",
    "a child that loads": """
print(jl.seval('''read(`$(Base.julia_cmd()) --startup-file=no --project=$(Base.active_project()) -e "using Layered; print(Layered.ready())"`, String)'''))
""",
    "workers": """
jl.seval("using Distributed")
print(jl.seval('''
    begin
        addprocs(1; env = ["JULIA_PYTHONCALL_EXE" => ""])
        @everywhere using Layered
        remotecall_fetch(() -> Layered.ready(), 2)
    end'''))
""",
    "a timer that nobody asked for": 'print(jl.seval("string(sum(1:10))"))',
    "a timer that was asked for": 'jl.seval("using Resident")\nprint(jl.seval("isopen(Resident.WORK[])"))',
    "what others are given": """
LOOK = '''
    try; string(given()); catch error; sprint(showerror, error)[1:30]; end,
    string(Val(:flag)), applicable(length, nothing), applicable(div, "a", "b"), hasmethod(Shade.which, Tuple{Int})
'''
jl.seval("using Shade; given() = length(first((nothing, 1)))")
print(jl.seval(LOOK))
jl.seval("using Pirate")
print(jl.seval(LOOK), jl.seval('Pirate.shown(nothing), div("a", "b"; sep = "-"), Shade.which(2)'))
""",
    "threads that load": """
jl.seval('''
    let tasks = [Threads.@spawn(Base.require(Base.identify_package(name))) for name in ("Layered", "Chooser", "Parent", "Shade")]
        foreach(wait, tasks)
    end''')
print(jl.seval("using Layered; Layered.ready()"))
""",
}  # fmt: skip
