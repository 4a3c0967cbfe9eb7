# What a run only inferred: what was inlined into a method that it compiled, or is reached from one. No trace names
# it, and on an image that lacks it the next process infers it anew, which on Julia 1.12 is most of a first call.

Base.include(@__MODULE__, joinpath(@__DIR__, "..", "..", "versions.jl")) # also where no `include` is

const MOST = 10_000 # lines
const LEAST = 0.5 # seconds that it may take however little was compiled; else a tenth of that

# Adds a line for each method instance that this process inferred to `path`, which nobody else writes to any more.
# Printed as Julia's own trace prints types (`jl_static_show`), so what reads the one can read the other. `compiled`
# seconds went into compilation: where a busy machine makes that slow, it makes this slow as well.
function note_inferred(path::String, compiled::Float64)
    knows_images() || return nothing
    written, end_by = 0, time_ns() + round(UInt64, 1.0e9 * max(LEAST, compiled / 10))
    io = open(path, "a")
    try
        visit_methods() do method
            (written >= MOST || time_ns() > end_by) && return nothing
            for instance in Base.specializations(method)
                instance isa Core.MethodInstance && isdefined(instance, :cache) || continue
                in_image(instance.cache) && continue
                write(io, "#= inferred =# precompile(")
                ccall(:jl_static_show, Csize_t, (Ptr{Cvoid}, Any), io.handle, instance.specTypes)
                write(io, ")\n")
                written += 1
            end
            return nothing
        end
    finally
        close(io)
    end
    return nothing
end
