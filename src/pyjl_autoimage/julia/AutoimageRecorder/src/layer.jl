# Uses a layer: an environment of ours, stacked on the project, whose packages come from their precompile caches or
# not at all. Whatever is wrong with a cache, no program waits for a precompilation.

# The package with the compiled statements, and those that must have been loaded before it is of use.
const STATEMENTS = Ref{Base.PkgId}(Base.PkgId(""))
const ROOTS = Base.UUID[]

# `description`: the layer's directory, name and uuid of its statements, "start" or "use", and the uuids of the roots,
# a line each.
function use_layer(description::String)
    lines = split(description, '\n')
    push!(LOAD_PATH, String(lines[1]))
    isempty(lines[2]) && return nothing
    STATEMENTS[] = Base.PkgId(Base.UUID(lines[3]), String(lines[2]))
    if lines[4] == "start"
        load_cached(STATEMENTS[])
        return nothing
    end
    for line in lines[5:end]
        push!(ROOTS, Base.UUID(line))
    end
    push!(Base.package_callbacks, load_statements)
    load_statements(STATEMENTS[]) # an image may have them all
    return nothing
end

# After each package: are all there that the statements are about?
function load_statements(::Base.PkgId)
    isempty(ROOTS) && return nothing
    loaded = Set{Base.UUID}()
    for id in keys(Base.loaded_modules)
        id.uuid === nothing || push!(loaded, id.uuid)
    end
    for root in ROOTS
        root in loaded || return nothing
    end
    empty!(ROOTS) # once, whether it works or not
    load_cached(STATEMENTS[])
    return nothing
end

# True if the package is loaded now. Julia's `require` would compare modification times, which tell nothing in a
# container or after a checkout, and precompile. What the layer depends on, and the content of every file, has been
# compared before we come here; that the caches are whole, and fit this very Julia and the packages that are loaded,
# is checked by Julia below.
function load_cached(id::Base.PkgId)
    haskey(Base.loaded_modules, id) && return true
    Base.JLOptions().use_compiled_modules == 0 && return false
    try
        @isdefined(BAKED) && Base.@lock Base.require_lock wake_for_caches(id)
    catch # what it needs says so itself where a program loads it
    end
    for path in Base.find_all_in_cache_path(id)
        library = Base.ocachefile_from_cachefile(path)
        try
            Base.@lock Base.require_lock Base._tryrequire_from_serialized(id, path, isfile(library) ? library : nothing)
        catch
        end
        if haskey(Base.loaded_modules, id)
            load_statements(id)
            return true
        end
    end
    return false
end

load_cached(name::String, uuid::String) =
    load_cached(Base.PkgId(Base.UUID(uuid), name)) ? nothing : error("$name has no fresh cache")
