# What code does at its top level. A package runs that once, when it is precompiled: so what is there for its effects, and
# what asks a process who it is, must be evaluated in each. Only what is known to define something counts as a
# definition. (A false alarm costs a second of evaluation, a miss a wrong program.)

const DEFINITIONS = (:function, :macro, :struct, :abstract, :primitive, :using, :import, :export, :public)

# Macros that define, whatever they are given; and those that do if what they are given does.
const DEFINING = ("@compiler_options", "@deprecate", "@enum")
const OF_DEFINITIONS = (
    "@assume_effects", "@compat", "@concrete", "@constprop", "@eval", "@fastmath", "@generated", "@inbounds",
    "@inline", "@kwdef", "@memoize", "@model", "@noinline", "@nospecialize", "@propagate_inbounds", "@pure", "@reexport",
    "@static", "@views", "@with_kw",
)

# What differs between processes, what reads files, and macros and calls that do something besides giving a value.
const OF_THE_PROCESS = (
    :ARGS, :CPU_NAME, :CPU_THREADS, :DEPOT_PATH, :ENV, :LOAD_PATH, :PROGRAM_FILE, :active_project, :current_task,
    :find_library, :free_memory, :getaddrinfo, :gethostname, :getipaddr, :getpid, :hash, :homedir, :isinteractive,
    :julia_cmd, :loadavg, :maxrss, :mktemp, :mktempdir, :nprocs, :nthreads, :now, :nworkers, :objectid, :pointer,
    :pointer_from_objref, :pwd, :rand, :randn, :randperm, :randstring, :shuffle, :tempdir, :tempname, :threadid,
    :time, :time_ns, :today, :total_memory, :uptime, :uuid1, :uuid4, :which, :workers,
)
# A file may be another one tomorrow. (Where code says `include_dependency`, it has told of what it reads.)
const OF_FILES = (
    :countlines, :ctime, :deserialize, :eachline, :filesize, :h5open, :h5read, :isdir, :isfile, :islink, :ispath, :jldopen,
    :load, :load_object, :lstat, :matread, :mmap, :mtime, :npzread, :open, :parsefile, :read, :readavailable, :readbytes!,
    :readchomp, :readdir, :readdlm, :readline, :readlines, :readlink, :readuntil, :stat, :tryparsefile, :walkdir,
)
const EFFECTFUL_MACROS = (
    "@async", "@ccall", "@debug", "@distributed", "@error", "@everywhere", "@info", "@printf", "@show", "@spawn",
    "@spawnat", "@threads", "@time", "@timed", "@warn",
)
const EFFECTFUL_CALLS = (:atexit, :ccall, :download, :eval, :open, :print, :println, :run, :schedule, :sleep, :write)

# The name of what is called: `c` of `A.b.c`, of `c{T}`, and of a macro where that is qualified.
function last_name(ex)
    ex isa Symbol && return ex
    ex isa GlobalRef && return ex.name
    ex isa QuoteNode && return last_name(ex.value)
    ex isa Expr && ex.head === :curly && return last_name(ex.args[1])
    return ex isa Expr && ex.head === :. && length(ex.args) == 2 ? last_name(ex.args[2]) : nothing
end

# Names whose value is not the same tomorrow, or in another process: these, and the code's own functions that use one.
const DOUBTFUL = Set{Symbol}(OF_THE_PROCESS)

function doubt(files)
    union!(empty!(DOUBTFUL), OF_THE_PROCESS)
    any(ex -> mentions_any(ex, (:include_dependency,)), files) || union!(DOUBTFUL, OF_FILES)
    own = Pair{Symbol,Any}[]
    foreach(ex -> functions!(own, ex), files)
    while true
        known = length(DOUBTFUL)
        for (name, does) in own
            name in DOUBTFUL || !mentions_any(does, setdiff(DOUBTFUL, locals!(Symbol[], does))) || push!(DOUBTFUL, name)
        end
        length(DOUBTFUL) == known && return
    end
end

# What is defined anywhere in an expression that may be called.
function functions!(found, ex)
    ex isa Expr || return
    if ex.head in (:function, :macro, :(=)) && length(ex.args) > 1
        made, does = ex.args
        of = signature(made)
        name = last_name(is_method(made) ? of.args[1] : of)
        called = ex.head !== :(=) || is_method(made) || (does isa Expr && does.head in (:->, :function))
        called && name !== nothing && push!(found, (ex.head === :macro ? Symbol('@', name) : name) => ex)
    end
    foreach(arg -> functions!(found, arg), ex.args)
end

# What a function calls its arguments and its own variables.
function locals!(found, ex)
    ex isa Expr || return found
    if ex.head in (:function, :(=), :->, :kw) && !isempty(ex.args)
        of = signature(ex.args[1])
        foreach(arg -> symbols!(found, arg), of isa Expr ? of.args[1+is_method(of):end] : (of,))
    end
    foreach(arg -> locals!(found, arg), ex.args)
    return found
end

symbols!(found, ex) = ex isa Symbol ? push!(found, ex) : ex isa Expr && ex.head !== :kw && foreach(arg -> symbols!(found, arg), ex.args)

mentions_any(ex, names) =
    ex isa Symbol ? ex in names : ex isa GlobalRef ? ex.name in names :
    ex isa Expr && (of_a_module(ex) in names || any(arg -> mentions_any(arg, names), ex.args))

# `name` of `A.B.name`; of `x.name`, which may be a field of anything, nothing.
of_a_module(ex) = is_dotted(ex) && is_module(ex.args[1]) ? ex.args[2].value : nothing
is_dotted(ex) = ex isa Expr && ex.head === :. && length(ex.args) == 2 && ex.args[2] isa QuoteNode
is_module(ex) = is_dotted(ex) ? is_module(ex.args[2].value) : ex isa Symbol && isuppercase(first(string(ex)))

is_doubtful(ex) = mentions_any(ex isa Expr ? something(of_a_module(ex), true) : ex, DOUBTFUL)

# The first expression that is more than a definition, or nothing.
function effect(ex)
    ex isa Expr || return nothing
    head, args = ex.head, ex.args
    if head in DEFINITIONS
        return nothing
    elseif head in (:toplevel, :block, :const, :global, :try)
        return first_of(effect, args)
    elseif head === :module
        return effect(module_body(ex))
    elseif head in (:if, :elseif, :let, :for, :&&, :||)
        found = effect_of_value(args[1])
        return found === nothing ? first_of(effect, args[2:end]) : found
    elseif head === :(=)
        return is_method(args[1]) ? nothing : is_named(args[1]) ? effect_of_value(args[2]) : ex
    elseif head === :call
        return args[1] in (:include, :include_dependency, :(Base.include), :(Base.include_dependency)) ? nothing : ex
    elseif head === :macrocall
        name = string(last_name(args[1]))
        name in DEFINING && return nothing
        name == "@doc" && return effect(args[end])
        return name in OF_DEFINITIONS ? first_of(effect, args[3:end]) : ex
    elseif head in (:error, :incomplete)
        return nothing # it will not be precompiled
    end
    return ex
end

function first_of(look, args)
    for arg in args
        found = look(arg)
        found === nothing || return found
    end
    return nothing
end

# `f(x)` of `f(x)::T where T`.
function signature(ex)
    while ex isa Expr && ex.head in (:where, :(::)) && !isempty(ex.args)
        ex = ex.args[1]
    end
    return ex
end

# `f(x) = ...`, in all its forms.
is_method(ex) = (of = signature(ex); of isa Expr && of.head === :call)

# `x = ...`, `x::T = ...`, `A{T} = ...`, `x, y = ...`.
is_named(ex) =
    ex isa Symbol || (ex isa Expr && (ex.head in (:(::), :curly) ? is_named(ex.args[1]) :
                                      ex.head in (:tuple, :parameters) && all(is_named, ex.args)))

# What computing a value does beyond that, as far as it is not within a function that is only defined here.
function effect_of_value(ex)
    is_doubtful(ex) && return ex
    ex isa Expr || return nothing
    head, args = ex.head, ex.args
    if head in (:quote, :inert, :->, :function) || (head === :(=) && is_method(args[1]))
        return nothing
    elseif head === :macrocall
        name = last_name(args[1])
        return string(name) in EFFECTFUL_MACROS || name in DOUBTFUL ? ex : first_of(effect_of_value, args[3:end])
    elseif head === :kw
        return effect_of_value(args[2])
    elseif head === :call || (head === :. && args[end] isa Expr) # `f.(x)`
        name = last_name(args[1])
        (name in EFFECTFUL_CALLS || (endswith(string(name), '!') && name !== :!)) && return ex
    elseif head === :(=)
        return is_named(args[1]) ? effect_of_value(args[2]) : ex
    elseif endswith(string(head), '=') # `x += 1`, `x .= 1`
        return ex
    end
    return first_of(effect_of_value, args)
end

# -- as Julia parses it ---------------------------------------------------------------------------------------------

# Whether a module has a version of Julia's syntax, at which it parses what it includes (1.14 and later; see `code.jl`).
const VERSIONED = hasmethod(Meta.parseall, Tuple{String}, (:mod,))

# A module that parses as the package does, at the version that its project names.
function alike(project)
    syntax = VERSIONED ? get(Base.parsed_toml(project), "syntax", nothing) : nothing
    syntax === nothing && return Module()
    return Core.eval(Module(), Expr(:module, VersionNumber(syntax["julia_version"]), true, :Alike, Expr(:block)))
end

expressions(path, within) =
    Meta.parseall(read(path, String); filename = path, (VERSIONED ? (; mod = within) : (;))...)

# Of a `module` expression, which begins with the version of the syntax where that is 1.14 or later.
module_body(ex) = ex.args[end]

# Where code does more than define, and the text of that; or nothing.
function first_effect_in(paths, within = Module())
    files = [path => expressions(path, within) for path in paths]
    doubt(last.(files))
    return first_of(((path, code),) -> first_effect_of(path, code), files)
end

function first_effect_of(path, code)
    at = LineNumberNode(1, Symbol(path))
    for ex in code.args
        ex isa LineNumberNode && (at = ex; continue)
        found = effect(ex)
        found === nothing || return string(path, ':', at.line, ": ", found)
    end
    return nothing
end
