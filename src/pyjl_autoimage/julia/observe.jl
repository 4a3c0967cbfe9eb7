# Notes the packages that a process loads, as it loads them: when each was there, and what had been compiled by then.
# Evaluated by `explain` in a module whose methods are interpreted; it uses nothing that Julia would compile for it.

const LOG = Ref{String}("")

# What must be added to Julia's clock to have Python's; the two are one on most systems.
const OFFSET = Ref{Int}(0)

function note(id::Base.PkgId)
    now = Int(time_ns()) + OFFSET[]
    compiled = Int(first(Base.cumulative_compile_time_ns()))
    uuid = id.uuid === nothing ? "" : string(id.uuid)
    try
        io = open(LOG[], "a")
        write(io, string(now, "\t", compiled, "\t", uuid, "\t", id.name, "\n"))
        close(io)
    catch
    end
    return nothing
end

function start(path::String, python_clock::Int)
    offset = python_clock - Int(time_ns())
    abs(offset) > 100_000_000 && (OFFSET[] = offset)
    LOG[] = path
    push!(Base.package_callbacks, note)
    return nothing
end
