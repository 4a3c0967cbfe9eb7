# Notes which packages a process loads, as it loads them, and can switch on the recording of compiled
# methods in a Julia that is already up.
#
# An image holds this compiled, as the package AutoimageRecorder. In a stock start it is evaluated, and
# interpreted, in a module that nothing refers to: compiling it would cost more than it ever does.

# The file that gets a line "package UUID NAME" for each package; empty: none.
const LOG = Ref{String}("")

function note(id::Base.PkgId)
    path = LOG[]
    uuid = id.uuid
    (isempty(path) || uuid === nothing) && return nothing
    try
        io = open(path, "a")
        write(io, string("package ", string(uuid), " ", id.name, "\n")) # one write: lines never mix
        close(io)
    catch
        LOG[] = "" # the file cannot be written any more: the program must not notice
    end
    return nothing
end

# Start noting. What was loaded before counts as well, but for what Julia's image held when it started.
function start(path::String)
    first = isempty(LOG[])
    LOG[] = path
    first || return nothing
    for id in collect(keys(Base.loaded_modules))
        Base.in_sysimage(id) || note(id)
    end
    push!(Base.package_callbacks, note)
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
