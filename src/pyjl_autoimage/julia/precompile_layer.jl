# Precompiles the packages of a layer into the first depot, looks at the program's own code among them, and loads them.
#
#     julia --project=PROJECT precompile_layer.jl LAYER REPORT STATEMENTS=UUID [MODULE=UUID ...]
#
# Julia's own cache checks decide later whether they are used; here it is said what became of each package.
module AutoimageLayer

include("made.jl")
using .Made: item

parse_id(item) = (parts = split(item, '='); Base.PkgId(Base.UUID(parts[2]), String(parts[1])))

function load_cached(id)
    lock(Base.require_lock)
    try
        Base._tryrequire_from_serialized(id, UInt128(0))
    finally
        unlock(Base.require_lock)
    end
    return Base.loaded_modules[id]
end

function precompiled(id)
    result = Base.compilecache(id)
    return result isa Tuple ? result[1] : result
end

# -- the program's own code, as Julia parses it --------------------------------------------------------------------

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
module_name(ex) = ex.args[end-1]::Symbol
module_body(ex) = ex.args[end]

# -- what it does at its top level ---------------------------------------------------------------------------------

# A package runs its top level once, when it is precompiled. So code whose top level is there for its effects must be
# evaluated in each process. The text of the first such expression, or nothing.
function effect(ex)
    ex isa Expr || return nothing
    head, args = ex.head, ex.args
    if head in (:toplevel, :block, :if, :elseif, :let, :for, :while, :try, :&&, :||)
        return first_effect(head in (:let, :for, :while, :if, :elseif) ? args[2:end] : args)
    elseif head === :module
        return effect(module_body(ex))
    elseif head === :call
        return args[1] in (:include, :include_dependency, :(Base.include), :(Base.include_dependency)) ? nothing : ex
    elseif head === :(=)
        return args[1] isa Expr && args[1].head in (:ref, :.) ? ex : nothing
    elseif head === :macrocall
        name = string(args[1] isa GlobalRef ? args[1].name : args[1])
        name == "@doc" && return effect(args[end])
        return name in EFFECTFUL ? ex : nothing
    end
    return nothing
end
function first_effect(args)
    for arg in args
        found = effect(arg)
        found === nothing || return found
    end
    return nothing
end
const EFFECTFUL = ("@info", "@warn", "@error", "@debug", "@show", "@time", "@async", "@spawn", "@threads", "@everywhere", "@printf")

function first_effect_in(path, within = Module())
    at = LineNumberNode(1, Symbol(path))
    for ex in expressions(path, within).args
        ex isa LineNumberNode && (at = ex; continue)
        found = effect(ex)
        found === nothing || return string(path, ':', at.line, ": ", found)
    end
    return nothing
end

# -- may it be part of an image, which every program of the environment starts on? ---------------------------------

# Why not: it initialises something, or adds methods that are about nothing of its own. Empty if it may.
function reason_against_image(root, files)
    isdefined(root, :__init__) && return "it has an __init__, which every start on the image would run"
    any(path -> occursin(r"@eval\b|\beval\(", read(path, String)), files) &&
        return "what it defines by eval cannot be told"
    for path in files, (within, name) in defined(root, expressions(path, root))
        found = try
            Core.eval(within, name)
        catch
            return "whether $name is a function of its own cannot be told"
        end
        for method in methods(found)
            rooted(method.module, root) && !rooted(parentmodule(found), root) && !mentions(method.sig, root) &&
                return "it adds a method to $name for types that are not its own"
        end
    end
    return ""
end

rooted(m, root) = m === root || (parentmodule(m) !== m && rooted(parentmodule(m), root))

function mentions(@nospecialize(type), root)
    type isa UnionAll && return mentions(type.body, root) || mentions(type.var.ub, root)
    type isa Union && return mentions(type.a, root) && mentions(type.b, root)
    type isa TypeVar && return mentions(type.ub, root)
    type isa Core.TypeofVararg && return isdefined(type, :T) && mentions(type.T, root)
    type isa DataType || return false
    return rooted(type.name.module, root) || any(parameter -> mentions(parameter, root), type.parameters)
end

# The functions that get methods at the top level, and there alone can: pairs of the module that says so and the name.
function defined(within, ex, found = Tuple{Module,Any}[])
    ex isa Expr || return found
    head, args = ex.head, ex.args
    if head === :module
        inner = module_name(ex)
        isdefined(within, inner) && defined(getfield(within, inner), module_body(ex), found)
    elseif head in (:function, :(=))
        name = function_name(args[1])
        name === nothing || push!(found, (within, name))
    elseif head in (:toplevel, :block, :if, :elseif, :let, :for, :while, :try, :macrocall, :global)
        foreach(arg -> defined(within, arg, found), args)
    end
    return found
end

function function_name(ex)
    while ex isa Expr && ex.head in (:where, :(::)) && !isempty(ex.args)
        ex = ex.args[1]
    end
    ex isa Expr && ex.head === :call || return nothing
    name = ex.args[1]
    name isa Expr && name.head === :curly && (name = name.args[1])
    return name isa Symbol || (name isa Expr && name.head === :.) ? name : nothing
end

# -- the journey ---------------------------------------------------------------------------------------------------

function code(io, id, project)
    try
        cache = precompiled(id)
        files = [entry isa Tuple ? entry[1] : entry for entry in Base.cache_dependencies(cache)[2]]
        generated = joinpath("src", string(id.name, ".jl"))
        sources = filter(path -> endswith(path, ".jl") && !endswith(path, generated), files)
        within = alike(project)
        for path in sources
            found = first_effect_in(path, within)
            found === nothing || return (item(io, "failed", id.name, "at its top level it does more than define: $found"); false)
        end
        against = Base.invokelatest(reason_against_image, load_cached(id), sources) # which sees what is loaded now
        item(io, "code", id.name, against, files...)
        return true
    catch error
        item(io, "failed", id.name, first(split(sprint(showerror, error), '\n')))
        return false
    end
end

function main(layer, report, statements, modules...)
    push!(LOAD_PATH, layer)
    open(report, "w") do io
        place(id) = joinpath(layer, "packages", id.name)
        usable = [id for id in map(parse_id, modules) if code(io, id, joinpath(place(id), "Project.toml"))]
        id = parse_id(statements)
        open(joinpath(place(id), "src", "code.jl"), "w") do file
            foreach(used -> println(file, "import ", used.name), usable)
            println(file, "const OWN = Module[", join((used.name for used in usable), ", "), "]")
        end
        precompiled(id)
        loaded = load_cached(id)
        item(io, "statements", Base.invokelatest(getfield, loaded, :COMPILED))
        for origin in values(Base.pkgorigins) # the layer's own, and all that they were built upon
            origin.cachepath === nothing || item(io, "cache", origin.cachepath)
        end
        Made.report(io)
        item(io, "end", "")
    end
end

end

isempty(ARGS) || AutoimageLayer.main(ARGS...)
