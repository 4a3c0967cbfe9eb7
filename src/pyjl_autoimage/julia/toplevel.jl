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

# What differs between processes, and macros and calls that do something besides giving a value.
const OF_THE_PROCESS = (
    :ARGS, :ENV, :PROGRAM_FILE, :CPU_THREADS, :getpid, :gethostname, :homedir, :isinteractive, :mktemp, :mktempdir, :now,
    :nprocs, :nthreads, :nworkers, :pwd, :rand, :randn, :randstring, :tempdir, :tempname, :time, :time_ns, :today, :uuid1,
    :uuid4, :workers,
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

# `f(x) = ...`, in all its forms.
function is_method(ex)
    while ex isa Expr && ex.head in (:where, :(::)) && !isempty(ex.args)
        ex = ex.args[1]
    end
    return ex isa Expr && ex.head === :call
end

# `x = ...`, `x::T = ...`, `A{T} = ...`, `x, y = ...`.
is_named(ex) =
    ex isa Symbol || (ex isa Expr && (ex.head in (:(::), :curly) ? is_named(ex.args[1]) :
                                      ex.head in (:tuple, :parameters) && all(is_named, ex.args)))

# What computing a value does beyond that, as far as it is not within a function that is only defined here.
function effect_of_value(ex)
    !(ex isa QuoteNode) && last_name(ex) in OF_THE_PROCESS && return ex
    ex isa Expr || return nothing
    head, args = ex.head, ex.args
    if head in (:quote, :inert, :->, :function) || (head === :(=) && is_method(args[1]))
        return nothing
    elseif head === :macrocall
        return string(last_name(args[1])) in EFFECTFUL_MACROS ? ex : first_of(effect_of_value, args[3:end])
    elseif head === :call || (head === :. && args[end] isa Expr) # `f.(x)`
        name = last_name(args[1])
        (name in EFFECTFUL_CALLS || (endswith(string(name), '!') && name !== :!)) && return ex
    elseif head === :(=)
        is_named(args[1]) || return ex
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
function first_effect_in(path, within = Module())
    at = LineNumberNode(1, Symbol(path))
    for ex in expressions(path, within).args
        ex isa LineNumberNode && (at = ex; continue)
        found = effect(ex)
        found === nothing || return string(path, ':', at.line, ": ", found)
    end
    return nothing
end
