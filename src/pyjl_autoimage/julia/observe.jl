# Notes the packages that a process loads, as it loads them: when each was there, and what had been compiled by then.
# Evaluated by `explain` in a module whose methods are interpreted, of what Julia has compiled in its own image.

# What must be added to Julia's clock to have Python's: nothing on most systems, where the two are one.
const OFFSET = let offset = PYTHON_CLOCK - Int(time_ns())
    -100_000_000 < offset < 100_000_000 ? 0 : offset
end

function note(id::Base.PkgId)
    compiled = string(first(Base.cumulative_compile_time_ns()))
    uuid = id.uuid === nothing ? "" : string(id.uuid)
    try
        io = open(LOG, "a")
        write(io, string(string(Int(time_ns()) + OFFSET), "\t", compiled, "\t", uuid, "\t", id.name, "\n"))
        close(io)
    catch
    end
    return nothing
end

push!(Base.package_callbacks, note)
