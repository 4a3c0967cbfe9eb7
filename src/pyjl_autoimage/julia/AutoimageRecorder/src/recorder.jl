# Notes which packages a process loads, as it loads them, and can switch on the recording of compiled
# methods in a Julia that is already up.
#
# An image holds this compiled, as the package AutoimageRecorder. In a stock start it is evaluated, and
# interpreted, in a module that nothing refers to: compiling it would cost more than it ever does.

# The file that gets a line "package UUID NAME" for each package, and "included PATH" for each file; empty: none.
const LOG = Ref{String}("")

# What Julia's clock of compilation showed at `start`, in nanoseconds.
const COMPILED = Ref{UInt64}(0)

function note(id::Base.PkgId)
    id.uuid === nothing || write_line(string("package ", string(id.uuid), " ", id.name, "\n"))
    return nothing
end

# A file of Julia code that becomes part of no package is compiled in each process: by `include` of juliacall's, say.
function note_included(m::Module, path::String)
    Base.PkgId(Base.moduleroot(m)).uuid === nothing && write_line(string("included ", path, "\n"))
    return nothing
end

function write_line(line::String)
    path = LOG[]
    isempty(path) && return nothing
    try
        io = open(path, "a")
        write(io, line) # one write: lines never mix
        close(io)
    catch
        LOG[] = "" # the file cannot be written any more: the program must not notice
    end
    return nothing
end

# As the process ends: the seconds that it spent compiling since `start`, and what it only inferred.
function note_compiled()
    seconds = (first(Base.cumulative_compile_time_ns()) - COMPILED[]) / 1.0e9
    write_line(string("compiled ", seconds, "\n"))
    path = unsafe_load(trace_option())
    (seconds < WORTHWHILE || path == C_NULL) && return nothing
    # To collect is to wait for every other thread, of which one may sleep in Python for ever: a program ends no later
    # for what is noted here. That takes a few megabytes, and the process ends.
    GC.enable(false)
    trace = unsafe_string(path)
    untrace() # Julia writes where it last was, so over anything that others add meanwhile
    try
        note = @isdefined(note_inferred) ? note_inferred : Base.include(Module(:AutoimageRecorder), joinpath(HERE, "inferred.jl"))
        Base.invokelatest(note, trace, seconds)
    catch
    end
    return nothing
end

# Seconds of compilation that make it worth while to look at what was inferred: that takes up to a tenth of it.
const WORTHWHILE = 0.5

const HERE = @__DIR__

# Start noting. What was loaded before counts as well, but for what Julia's image held when it started.
function start(path::String)
    @isdefined(BAKED) || unspecialize_callers() # an image has it for good
    already = !isempty(LOG[])
    LOG[] = path
    already && return nothing
    for id in collect(keys(Base.loaded_modules))
        Base.in_sysimage(id) || note(id)
    end
    push!(Base.package_callbacks, note)
    isdefined(Base, :include_callbacks) && push!(Base.include_callbacks, note_included)
    Base.cumulative_compile_timing(true)
    COMPILED[] = first(Base.cumulative_compile_time_ns())
    atexit(note_compiled)
    return nothing
end

trace_option() = convert(
    Ptr{Ptr{UInt8}},
    cglobal(:jl_options) +
    fieldoffset(Base.JLOptions, findfirst(==(:trace_compile), fieldnames(Base.JLOptions))::Int),
)

# Let this Julia write what it compiles from now on to `path`. Whether it does must be tested: it opens its
# stream once, so a Julia that already traces elsewhere ignores the changed option.
function trace(path::String)
    copy = ccall(:strdup, Ptr{UInt8}, (Cstring,), path) # Julia keeps the pointer for good
    unsafe_store!(trace_option(), copy)
    Base.invokelatest(Core.eval(Module(), :(x -> (x, x))), 1)  # compiles something
    return filesize(path) > 0
end

# Stop tracing: without a name Julia writes nothing, although its stream stays open.
function untrace()
    unsafe_store!(trace_option(), Ptr{UInt8}(0))
    return nothing
end
