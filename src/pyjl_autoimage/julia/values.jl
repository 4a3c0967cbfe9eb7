# What a value holds that means something in one process alone: a package keeps its values in a file, where a pointer is
# null, a timer is dead, and a generator that was seeded by chance gives everybody the same numbers.

# What Julia makes anew, or writes as it is, although it holds a pointer.
const KEPT = Union{BigInt,BigFloat,Regex,Module,Method,Type,Symbol,WeakRef}

const RANDOM = Base.PkgId(Base.UUID("9a3f8284-a2c9-5f02-9a11-845980a1fd5c"), "Random")

function is_generator(@nospecialize(value))
    haskey(Base.loaded_modules, RANDOM) || return false
    return ismutable(value) && value isa getglobal(Base.loaded_modules[RANDOM], :AbstractRNG)
end

# Types of which no value needs to be looked into.
is_harmless(@nospecialize(type)) = type <: Union{String,SubString{String},KEPT} || holds_no_handle(type)
holds_no_handle(@nospecialize(type)) =
    isbitstype(type) && !(type <: Union{Ptr,RawFD}) && all(holds_no_handle, fieldtypes(type))

# What within a value cannot be kept (of a pointer: what holds it), or nothing.
function unkept(@nospecialize(value), seen = Base.IdSet{Any}())
    waiting = Tuple{Any,Any}[(value, value)] # each with what holds it
    while !isempty(waiting)
        value, holder = pop!(waiting)
        is_harmless(typeof(value)) && continue
        value isa Ptr && (value == C_NULL ? continue : return holder)
        value isa RawFD && return holder
        (value isa Task || is_generator(value) || finds_by_identity(value)) && return value
        ismutable(value) && (value in seen ? continue : push!(seen, value))
        foreach_part(part -> push!(waiting, (part, is_container(value) ? part : value)), value)
    end
    return nothing
end

# A table that finds its keys by where they lie in memory (a `Dict`, that of a `Set`): elsewhere it finds none of them.
# (Julia makes an `IdDict` anew.)
function finds_by_identity(@nospecialize(table))
    keys = all(name -> hasfield(typeof(table), name), (:slots, :keys)) ? getfield(table, :keys) : nothing
    (keys isa Vector || is_memory(keys)) && !is_harmless(eltype(keys)) || return false
    return any(index -> isassigned(keys, index) && is_identity(keys[index]), eachindex(keys))
end

# Whether a value is hashed by where it, or a part of it, lies: by `objectid`, where its type has no `hash` of its own.
function is_identity(@nospecialize(value))
    value isa AbstractArray && isbitstype(eltype(value)) && return false
    value isa Union{Tuple,Pair,AbstractArray} && return any(is_identity, value)
    return which(hash, Tuple{typeof(value),UInt}) === which(hash, Tuple{Any,UInt}) && has_address(value)
end

# Whether a value's `objectid` is made of an address (`jl_object_id` in src/builtins.c).
function has_address(@nospecialize(value))
    (value isa Union{String,Symbol,Type,Module,Core.SimpleVector} || isbitstype(typeof(value))) && return false
    return ismutable(value) || any(index -> isdefined(value, index) && has_address(getfield(value, index)), 1:nfields(value))
end

is_container(@nospecialize(value)) = value isa Union{Array,Core.SimpleVector,Tuple} || is_memory(value)
is_memory(@nospecialize(value)) = isdefined(Core, :GenericMemory) && value isa getglobal(Core, :GenericMemory)

function foreach_part(f, @nospecialize(value))
    if value isa Array || is_memory(value)
        is_harmless(eltype(value)) && return
        foreach(index -> isassigned(value, index) && f(value[index]), eachindex(value))
    elseif isdefined(Core, :GenericMemoryRef) && value isa getglobal(Core, :GenericMemoryRef)
        f(value.mem)
    else # a SimpleVector has no fields, but parts
        value isa Core.SimpleVector && foreach(f, value)
        foreach(index -> isdefined(value, index) && f(getfield(value, index)), 1:nfields(value))
    end
end

# The first of a module's globals, or of what its functions have caught, that holds such a value: name and value.
function first_unkept(root::Module)
    seen, waiting = Base.IdSet{Any}(), Module[root]
    while !isempty(waiting)
        m = pop!(waiting)
        for name in sort!(names(m; all = true)) # those of others, which it uses, are not among them
            (isdefined(m, name) && !Base.isdeprecated(m, name)) || continue
            value = getfield(m, name)
            value isa Module && (parentmodule(value) === m && value !== m && push!(waiting, value); continue)
            found = unkept(value, seen)
            found === nothing || return name => found
        end
    end
    return first_caught(root, seen)
end

# `let handle = open(path); global f() = read(handle); end`: what `f` reads is a literal in its method.
function first_caught(root, seen)
    caught = Ref{Any}(nothing)
    visit_methods() do method
        (caught[] === nothing && rooted(method.module, root) && isdefined(method, :source)) || return
        for literal in literals(Base.uncompressed_ir(method))
            found = unkept(literal, seen)
            found === nothing || (caught[] = method.name => found; return)
        end
    end
    return caught[]
end

function literals(code::Core.CodeInfo)
    found, waiting = Any[], Any[code.code...]
    while !isempty(waiting)
        part = pop!(waiting)
        part isa Expr ? append!(waiting, part.args) :
        part isa Core.CodeInfo ? append!(waiting, part.code) :
        part isa Core.ReturnNode ? isdefined(part, :val) && push!(waiting, part.val) :
        part isa Core.GotoIfNot ? push!(waiting, part.cond) :
        part isa QuoteNode ? push!(found, part.value) :
        part isa Union{GlobalRef,LineNumberNode,Core.SSAValue,Core.SlotNumber,Core.GotoNode,Core.NewvarNode} ? nothing :
        push!(found, part)
    end
    return found
end
