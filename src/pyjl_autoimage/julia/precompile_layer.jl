# Precompiles the packages of a layer into the first depot, and loads them.
#
#     julia --project=PROJECT precompile_layer.jl LAYER REPORT STATEMENTS=UUID [MODULE=UUID ...]
#
# Julia's own cache checks decide later whether they are used; here it is said what became of each package.
module AutoimageLayer

include("made.jl")
include("restless.jl")
using .Made: item, mentions, rooted, visit_methods

parse_id(item) = (parts = split(item, '='); Base.PkgId(Base.UUID(parts[2]), String(parts[1])))

function precompiled(id)
    result = Base.compilecache(id)
    return result isa Tuple ? result[1] : result
end

# -- may it be part of an image, which every program of the environment starts on? ---------------------------------

# Why not: it initialises something, or adds methods that are about nothing of its own. Empty if it may.
function reason_against_image(root)
    isdefined(root, :__init__) && return "it has an __init__, which every start on the image would run"
    foreign = Ref{Any}(nothing)
    visit_methods() do method
        rooted(method.module, root) && !mentions(method.sig, root) && (foreign[] = method)
    end
    return foreign[] === nothing ? "" : "it adds a method for types that are not its own: $(foreign[].sig)"
end

# -- the journey ---------------------------------------------------------------------------------------------------

function begin_with(io, id)
    item(io, "begun", id.name)
    flush(io)
end

function code(io, id)
    begin_with(io, id)
    try
        cache = precompiled(id)
        files = [entry isa Tuple ? entry[1] : entry for entry in Base.cache_dependencies(cache)[2]]
        against = Base.invokelatest(reason_against_image, Base.require(id)) # which sees what is loaded now
        item(io, "code", id.name, against, files...)
        return true
    catch error
        item(io, "failed", id.name, first(split(sprint(showerror, error), '\n')))
        return false
    end
end

needed(place) = [Base.PkgId(Base.UUID(uuid), name) for (name, uuid) in Base.parsed_toml(joinpath(place, "Project.toml"))["deps"]]

# A package may be fine where the program runs, and not here: no licence, no device. The others do not wait for it.
function usable(io, root)
    against = reason_against(root)
    against === nothing || item(io, "without", root.name, against)
    return against === nothing
end

function main(layer, report, statements, modules...)
    push!(LOAD_PATH, layer)
    open(report, "w") do io
        own = filter(id -> code(io, id), map(parse_id, modules))
        id = parse_id(statements)
        begin_with(io, id)
        place = joinpath(layer, "packages", id.name)
        roots = filter(root -> usable(io, root), setdiff(needed(place), needed(layer))) # of ours some have been left out
        open(joinpath(place, "src", "code.jl"), "w") do file
            foreach(used -> println(file, "import ", used.name), (roots..., own...))
            println(file, "const OWN = Module[", join((used.name for used in own), ", "), "]")
        end
        precompiled(id)
        item(io, "statements", Base.invokelatest(getfield, Base.require(id), :COMPILED))
        for origin in values(Base.pkgorigins) # the layer's own, and all that they were built upon
            origin.cachepath === nothing || item(io, "cache", origin.cachepath)
        end
        Made.report(io)
        item(io, "end", "")
    end
end

end

isempty(ARGS) || AutoimageLayer.main(ARGS...)
