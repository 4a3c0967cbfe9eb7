# Looks at a program's own code before it is precompiled, evaluated as the program does: does it only define, and can what it
# leaves in its globals be kept in a file?
#
#     julia --project=PROJECT own_code.jl LAYER REPORT MODULE=UUID ...
#
# Code may end this process, too: then it is the one that was begun last.
module AutoimageOwnCode

include("versions.jl")
include("items.jl")
include("restless.jl")
include("toplevel.jl")
include("values.jl")

# What code changes in its process, which no syntax tells where a function does it. An `__init__` may: it runs in each.
function changeable()
    task = current_task()
    return [
        "draws random numbers" => Any[getfield(task, name) for name in fieldnames(Task) if startswith(string(name), "rngState")],
        "changes ENV" => Dict(ENV),
        "changes LOAD_PATH or DEPOT_PATH" => (copy(LOAD_PATH), copy(DEPOT_PATH)),
        "changes the current directory" => pwd(),
        "changes the logger" => Base.CoreLogging.global_logger(),
        "changes the displays" => length(Base.Multimedia.displays),
        "registers something that is called at the end" => registered(:atexit_hooks),
        "registers something that is called for each package" => registered(:package_callbacks),
        "makes temporary files" => isdefined(Base.Filesystem, :TEMP_CLEANUP) ? length(Base.Filesystem.TEMP_CLEANUP) : 0,
    ]
end

registered(name) = isdefined(Base, name) ? length(getfield(Base, name)) : 0

first_change(before) =
    first_of((((what, was), (_, is)),) -> isequal(was, is) ? nothing : what, zip(before, changeable()))

# Why it cannot come precompiled; nothing if it can.
function reason(id, place)
    project = joinpath(place, "Project.toml")
    within, facts = alike(project), Base.parsed_toml(project)
    for (name, uuid) in facts["deps"] # what one does as it is loaded is not this code's doing
        against = reason_against(Base.PkgId(Base.UUID(uuid), name))
        against === nothing || return "of $name, which it uses: $against"
    end
    entry, printed = joinpath(place, "src", string(id.name, ".jl")), tempname()
    known, Base._track_dependencies[] = length(Base._require_dependencies), true
    before, found = changeable(), Ref{Any}(nothing)
    look(m) = (found[] = (first_change(before), first_unkept(m)); nothing)
    evaluate() = Base.include(ex -> with_call(ex, look), Base.__toplevel__, entry)
    open(io -> redirect_stdio(evaluate; stdout = io, stderr = io), printed; write = true)
    files = [path for (_, path, _...) in Base._require_dependencies[known+1:end] if endswith(path, ".jl") && path != entry]
    change, value = found[]
    effect = first_effect_in(unique(files), within)
    effect === nothing || return string("at its top level it ", something(change, "does more than define"), ": ", effect)
    if value !== nothing
        name, held = value
        return string(place_of(name, files, within), name, " holds a ", typeof(held), ", which means nothing to another process")
    end
    change === nothing || return "at its top level it $change"
    return filesize(printed) > 0 ? "at its top level it prints: $(first(readline(printed), 60))" : nothing
end

# The module with a call at its end; which comes before its `__init__`.
function with_call(ex, look)
    push!(module_body(ex).args, :($look($(Expr(:macrocall, Symbol("@__MODULE__"), LineNumberNode(0))))))
    return ex
end

# Where a name is given a value, as far as the top level tells.
function place_of(name, files, within)
    for path in files
        line = 1
        for ex in expressions(path, within).args
            ex isa LineNumberNode ? (line = ex.line) : assigns(ex, name) && return "$path:$line: "
        end
    end
    return ""
end

assigns(ex, name) = ex isa Expr && (ex.head in (:(=), :function) ? mentions_name(ex.args[1], name) : any(arg -> assigns(arg, name), ex.args))
mentions_name(ex, name) = ex === name || (ex isa Expr && any(arg -> mentions_name(arg, name), ex.args))

function main(layer, report, modules...)
    push!(LOAD_PATH, layer)
    open(report, "w") do io
        for text in modules
            name, uuid = split(text, '=')
            item(io, "begun", name)
            flush(io)
            why = try
                reason(Base.PkgId(Base.UUID(uuid), String(name)), joinpath(layer, "packages", name))
            catch error
                first(split(sprint(showerror, error), '\n'))
            end
            item(io, "looked", name, something(why, ""))
            flush(io)
        end
        item(io, "end", "")
    end
end

end

isempty(ARGS) || AutoimageOwnCode.main(ARGS...)
