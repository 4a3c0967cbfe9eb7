# What differs between versions of Julia, in one place. Asked of the running Julia, never of its number.

function root(m::Module)
    parent = parentmodule(m)
    return parent === m || parent === Main ? m : root(parent) # Base lies in Main
end

# Whether a module is this one, or lies within it.
rooted(m, root) = m === root || (parentmodule(m) !== m && rooted(parentmodule(m), root))

# Whether a signature names a type that is this module's own, so that no call without one of its values comes to it.
function mentions(@nospecialize(type), root)
    type isa UnionAll && return mentions(type.body, root) || mentions(type.var.ub, root)
    type isa Union && return mentions(type.a, root) && mentions(type.b, root)
    type isa TypeVar && return mentions(type.ub, root)
    type isa Core.TypeofVararg && return isdefined(type, :T) && mentions(type.T, root)
    type isa DataType || return false
    return rooted(type.name.module, root) || any(parameter -> mentions(parameter, root), type.parameters)
end

# Every method of this Julia: 1.12 keeps them in one table, those before it in one for each function's type.
function visit_methods(f)
    tables = isdefined(Core, :methodtable) ? (Core.methodtable,) : method_tables()
    for table in tables
        Base.visit(method -> method isa Method && f(method), table)
    end
end

# The tables that a name leads to.
function method_tables()
    found, seen = Base.IdSet{Core.MethodTable}(), Base.IdSet{Module}()
    waiting = Module[Core, Main, values(Base.loaded_modules)...]
    function see(@nospecialize(type))
        type = Base.unwrap_unionall(type)
        type isa DataType && isdefined(type.name, :mt) && push!(found, type.name.mt)
    end
    while !isempty(waiting)
        m = pop!(waiting)
        m in seen && continue
        push!(seen, m)
        for name in names(m; all = true)
            isdefined(m, name) && !Base.isdeprecated(m, name) || continue
            value = getfield(m, name)
            value isa Module && parentmodule(value) === m && push!(waiting, value)
            value isa Core.MethodTable && push!(found, value)
            value isa Type && see(value)
            see(typeof(value))
        end
    end
    return found
end

# Whether an object came with the system image or a package image: a bit of the word before it
# (`_jl_taggedvalue_bits` in src/julia.h; `jl_object_in_image` is exported from 1.11 on only).
in_image(@nospecialize(object)) = unsafe_load(Ptr{UInt}(pointer_from_objref(object)) - sizeof(UInt)) & 4 != 0
knows_images() = in_image(Base) && !in_image(Any[])

# What a precompile cache was made upon: every module that was loaded then, with its build id.
required_modules(path) = Base.parse_cache_header(path)[3]

# What the header of a precompile cache says: its modules, each with its build id; the files that they are made of; the
# preferences that were read while they were compiled, each as its package's uuid and its name.
function cache_header(path)
    modules, (files, _...), _, _, preferences, _... = Base.parse_cache_header(path)
    own = first(first(modules)).uuid
    return (
        modules = [(id, build_id % UInt64) for (id, build_id) in modules],
        files = [file.filename for file in files],
        preferences = preferences_read(own, preferences),
    )
end

# 1.10 to 1.12: the names of a package's own. Those that it reads of others its cache does not name.
preferences_read(own, names::Vector{String}) = [(string(own), name) for name in names]

# 1.14: those of whatever package, as TOML; with their values, and apart from these what was not set
# (`get_preferences_blob`, base/loading.jl).
function preferences_read(own, blob::String)
    table = Base.TOML.parse(typeof(Base.TOML_CACHE.p)(blob))
    unset = pop!(table, "unset", Dict{String,Any}())
    all_names(found) = found isa Dict ? keys(found) : found
    return [(uuid, name) for part in (table, unset) for (uuid, found) in part for name in all_names(found)]
end
