# The packages of an image sleep until somebody loads them. Until then they are as absent as in plain Julia: none is among
# the loaded ones, no `__init__` runs, and another version may be loaded in place of one. Who loads one (`using` comes to
# Julia's `require`) has it, and first what it needs, registered and initialized as Julia does it for what comes from a
# precompile cache; and what it adds to functions of others for types of others is in force.

struct Sleeper
    root::Module
    path::String # of its source, where it was found when the image was made
    needs::Vector{Base.PkgId} # what it was precompiled upon, in the order in which that was loaded
end

const BAKED = Dict{Base.PkgId,Sleeper}() # all of them
const ASLEEP = Set{Base.PkgId}()

# What they add to functions of others for types of others.
const ADDED = Dict{Base.PkgId,Vector{Method}}()

# Modules with an `__init__`, in the order in which Julia, as it started, would have run those.
const INITS = Module[]

# What Julia calls for a package that is not loaded, with `require_lock` held: `_require` in 1.10, which notes itself that
# the package is being loaded; in later ones that has been done by then. Nothing: packages are awake as Julia starts.
const NOTES_ITSELF = isdefined(Base, :_require)
const LOAD = let names = (:loaded_modules_order, :register_root_module, :EXT_PRIMED, :EXT_DORMITORY, :_require_prelocked)
    load = NOTES_ITSELF ? :_require : :__require_prelocked
    known = all(name -> isdefined(Base, name), (names..., load)) && hasmethod(getfield(Base, load), Tuple{Base.PkgId,Any})
    known ? getfield(Base, load) : nothing
end

# -- as the image is made ----------------------------------------------------------------------------------------------

function put_to_sleep()
    LOAD === nothing && return 0
    order = [Base.PkgId(m) => m for m in Base.loaded_modules_array()]
    filter!(((id, m),) -> !(id.uuid === nothing || is_julias_own(id) || m === AutoimageRecorder), order)
    for (number, (id, m)) in enumerate(order)
        earlier = first.(order[1:number-1])
        BAKED[id] = Sleeper(m, pathof(m)::String, filter(in(precompiled_upon(id, earlier)), earlier))
    end
    for (id, m) in order
        each_module(guard_init, m)
        push!(ASLEEP, id)
        Base.pkgorigins[id].cachepath = nothing
    end
    can_reinstate() && withdraw(Dict(m => id for (id, m) in order))
    respect_no_versions()
    return length(ASLEEP)
end

function withdraw(roots)
    visit_methods() do method
        id = get(roots, root(method.module), nothing)
        (id === nothing || method.name === :__init__) && return
        all_mentioned(method.sig, [id]) || all_mentioned(method.sig, triggers(id)) || push!(get!(Vector{Method}, ADDED, id), method)
    end
    foreach(methods -> filter!(withdrawn, methods), values(ADDED))
end

# No call comes to a method without values of all the types that it names.
all_mentioned(signature, ids) = !isempty(ids) && all(id -> mentions(signature, BAKED[id].root), ids)

# False if it was deleted before.
function withdrawn(method)
    hasfield(Method, :deleted_world) && method.deleted_world != typemax(UInt) && return false
    try
        Base.delete_method(method)
        return true
    catch
        return false
    end
end

# What has Julia load an extension, once all of it is loaded; nothing of a package that is none.
function triggers(id)
    for (parent, sleeper) in BAKED
        project = joinpath(dirname(dirname(sleeper.path)), "Project.toml")
        Base.uuid5(parent.uuid, id.name) == id.uuid && isfile(project) || continue
        facts = Base.parsed_toml(project)
        uuids = merge(get(facts, "deps", Dict()), get(facts, "weakdeps", Dict()))
        others = [Base.PkgId(Base.UUID(uuids[name]), name) for name in vcat(facts["extensions"][id.name])]
        return filter(in(keys(BAKED)), [parent; others]) # what is in Julia's own image is always there
    end
    return Base.PkgId[]
end

# Whether Julia's own image holds it: the process that makes an image does not say.
is_julias_own(id) = Base.pkgorigins[id].cachepath === nothing && isdir(joinpath(Sys.STDLIB, id.name))

# What a package's cache says that was loaded when it was made. (Of one that has none, anything may be.)
function precompiled_upon(id, earlier)
    cache = Base.pkgorigins[id].cachepath
    return cache === nothing ? earlier : Set(first.(required_modules(cache)))
end

function each_module(f, m::Module)
    for name in names(m; all = true)
        isdefined(m, name) || continue
        inner = getfield(m, name)
        inner isa Module && inner !== m && parentmodule(inner) === m && nameof(inner) === name && each_module(f, inner)
    end
    f(m)
end

# Its `__init__` becomes one that asks first; what it did, a copy of it does.
function guard_init(m::Module)
    isdefined(m, :__init__) && hasmethod(getfield(m, :__init__), Tuple{}) || return
    method = which(getfield(m, :__init__), Tuple{})
    parentmodule(method) === m || return
    copy = Core.eval(m, Expr(:function, Symbol("#__init__")))
    signature = Core.svec(Core.svec(Core.Typeof(copy)), Core.svec(), LineNumberNode(Int(method.line), method.file))
    ccall(:jl_method_def, Any, (Any, Ptr{Cvoid}, Any, Any), signature, C_NULL, Base.uncompressed_ir(method), m)
    Base.delete_method(method) # to overwrite one is not allowed here
    Core.eval(m, :(__init__() = $initialize($m, $copy)))
    Base.invokelatest(precompile, copy, ())
    Base.invokelatest(precompile, getfield(m, :__init__), ())
end

function initialize(m::Module, f)
    Base.PkgId(root(m)) in ASLEEP ? push!(INITS, m) : f()
    return nothing
end

# Pkg would not touch what is in the image, and hold to its versions. (They stay in `Base._sysimage_modules`, so that it
# does not precompile them.)
function respect_no_versions()
    for (id, m) in Base.loaded_modules
        id.name == "Pkg" && isdefined(m, :respect_sysimage_versions) && m.respect_sysimage_versions(false)
    end
end

# -- in each process ---------------------------------------------------------------------------------------------------

# Julia starts on an image with all that is in it loaded.
function __init__()
    isempty(ASLEEP) && return nothing
    for id in ASLEEP
        delete!(Base.loaded_modules, id)
        isdefined(Base, :loaded_precompiles) && delete!(Base.loaded_precompiles, id)
    end
    awake = 0
    for m in Base.loaded_modules_order # `filter!` would be compiled for it
        Base.PkgId(m) in ASLEEP || (Base.loaded_modules_order[awake += 1] = m)
    end
    resize!(Base.loaded_modules_order, awake)
    empty!(Base.EXT_PRIMED)
    empty!(Base.EXT_DORMITORY)
    return nothing
end

# More specific than Julia's own method, which is called for all that does not sleep here.
if LOAD !== nothing
    function (::typeof(LOAD))(id::Base.PkgId, env::Union{Nothing,String})
        may_wake(id, env) || return invoke(LOAD, Tuple{Base.PkgId,Any}, id, env)
        NOTES_ITSELF || return wake(id)
        woken = Base.start_loading(id)
        woken === nothing || return woken
        try
            return woken = wake(id)
        finally
            Base.end_loading(id, woken)
        end
    end
end

# Whether the package is asleep here, and what the project means.
function may_wake(id::Base.PkgId, env)
    isempty(ASLEEP) && return false
    id in ASLEEP || (wake_for_caches(id); return false)
    id in NEEDED && return true
    return is_meant(id, env) && all_meant(BAKED[id].needs)
end

# (A program's own code is in no project, and nowhere else.)
function is_meant(id, env = nothing)
    path, found = BAKED[id].path, Base.locate_package(id, env)
    found === nothing && return !isfile(path)
    return found == path || samefile(found, path)
end

all_meant(ids) = all(id -> id in ASLEEP ? is_meant(id) : get(Base.loaded_modules, id, nothing) === BAKED[id].root, ids)

const NEEDED = Set{Base.PkgId}() # by what is being woken, and looked at already

function wake(id)
    needs = BAKED[id].needs
    union!(NEEDED, needs)
    try
        foreach(Base._require_prelocked, needs)
    finally
        setdiff!(NEEDED, needs)
    end
    return rouse(id)
end

function rouse(id)
    m = BAKED[id].root
    delete!(ASLEEP, id)
    foreach(reinstate, get(ADDED, id, ()))
    Base.register_root_module(m)
    isdefined(Base, :loaded_precompiles) && push!(get!(Vector{Module}, Base.loaded_precompiles, id), m)
    unlock(Base.require_lock) # as Julia does meanwhile
    try
        for inner in INITS
            root(inner) === m && ccall(:jl_init_restored_module, Cvoid, (Any,), inner)
        end
    finally
        lock(Base.require_lock)
    end
    return m
end

can_reinstate() =
    try
        cglobal(:jl_method_table_insert) != cglobal(:jl_method_get_table) != C_NULL
    catch
        false
    end

# Where a method keeps from when on it counts, and until when; and what stands there before it does.
const WORLDS = Pair{Int,UInt}[
    fieldoffset(Method, number) => world for (name, world) in (:primary_world => UInt(1), :deleted_world => typemax(UInt))
    for (number, field) in enumerate(fieldnames(Method)) if field === name
]

# A method that was deleted counts from now on, as if it were defined now.
function reinstate(method::Method)
    for (offset, world) in WORLDS
        unsafe_store!(Ptr{UInt}(pointer_from_objref(method) + offset), world)
    end
    table = ccall(:jl_method_get_table, Any, (Any,), method)
    ccall(:jl_method_table_insert, Cvoid, (Any, Any, Ptr{Cvoid}), table, method, C_NULL)
    return nothing
end

# A package outside of the image that was precompiled upon packages in it.
function wake_for_caches(id)
    for path in Base.find_all_in_cache_path(id)
        required = try
            filter(((needed, _),) -> haskey(BAKED, needed), required_modules(path))
        catch
            continue # no cache of this Julia
        end
        all(((needed, build_id),) -> Base.module_build_id(BAKED[needed].root) == build_id, required) || continue
        needs = first.(required)
        all_meant(needs) || continue
        foreach(Base._require_prelocked, needs)
        return
    end
end

# For who asks what there is, and runs nothing of it: all as an image of Julia's own would have it.
function reveal()
    for id in ASLEEP
        foreach(reinstate, get(ADDED, id, ()))
        Base.register_root_module(BAKED[id].root)
    end
    empty!(ASLEEP)
end
