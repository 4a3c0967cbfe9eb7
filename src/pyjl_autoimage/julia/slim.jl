# Forgets the compiled code that an image would inherit from Julia's own for working at its prompt: the package
# manager and what it stands on. Julia compiles everything of its base image again for a new one, and this, a small
# part of the methods, is a large part of that work. What is forgotten still works: it is compiled when called.
# What a recorded statement, or any code that is kept, calls by name is inferred anew, and so compiled into the image.
module Slim

include("versions.jl")

# Not Markdown: PythonCall reads docstrings as it starts, and without its code every import took 0.9 s longer.
const PROMPT =
    ("ArgTools", "Downloads", "InteractiveUtils", "LibCURL", "LibGit2", "NetworkOptions", "Pkg", "REPL", "Tar", "p7zip_jll")

function prompt_modules()
    found = Base.IdSet{Module}()
    for name in PROMPT
        file = joinpath(Sys.STDLIB, name, "Project.toml")
        isfile(file) || continue
        id = Base.PkgId(Base.UUID(Base.parsed_toml(file)["uuid"]::String), name)
        haskey(Base.loaded_modules, id) && push!(found, Base.loaded_modules[id])
    end
    return found
end

# A method of Base that was compiled for a type of Pkg's is Pkg's. One method for all kinds of type: nothing here
# is compiled yet when it runs.
function names_one(modules, @nospecialize(type))
    type isa UnionAll && return names_one(modules, type.body)
    type isa Union && return names_one(modules, type.a) || names_one(modules, type.b)
    type isa Core.TypeofVararg && return isdefined(type, :T) && names_one(modules, type.T)
    type isa DataType || return false
    root(type.name.module) in modules && return true
    for parameter in type.parameters
        names_one(modules, parameter) && return true
    end
    return false
end

const CACHE = fieldoffset(Core.MethodInstance, findfirst(==(:cache), fieldnames(Core.MethodInstance))::Int)

# No Julia function makes a field undefined again.
forget!(instance::Core.MethodInstance) = unsafe_store!(Ptr{Ptr{Cvoid}}(pointer_from_objref(instance) + CACHE), C_NULL)

# Recordings of plain runs do not name it: there it was compiled already.
function keep_what_starts_call()
    for m in prompt_modules()
        nameof(m) === :REPL && isdefined(m, :active_module) && precompile(getfield(m, :active_module), ())
    end
end

function forget()
    modules, forgotten, all = prompt_modules(), 0, 0
    visit_methods() do method
        own = root(method.module) in modules
        for instance in Base.specializations(method)
            (instance === nothing || !isdefined(instance, :cache)) && continue
            all += 1
            if own || names_one(modules, instance.specTypes)
                forget!(instance)
                forgotten += 1
            end
        end
    end
    keep_what_starts_call()
    println("[autoimage] slim: forgot ", forgotten, " of ", all, " method instances")
    flush(stdout)
end

end
