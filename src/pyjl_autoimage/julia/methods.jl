# Included by slim.jl and contents.jl, which go through all methods.

function root(m::Module)
    parent = parentmodule(m)
    return parent === m || parent === Main ? m : root(parent) # Base lies in Main
end

# Every method table that a name leads to; Julia 1.12 has one, with a name of its own in Core.
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
