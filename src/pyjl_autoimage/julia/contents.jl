# What native code an image holds, by package. Runs in a Julia that was started on the image: every compiled method
# knows where its code begins, and what lies between one beginning and the next is taken for its.
module Contents

include("versions.jl")
include("items.jl")

struct Symbolized # Dl_info of dladdr(3)
    file::Ptr{UInt8}
    base::Ptr{Cvoid}
    name::Ptr{UInt8}
    address::Ptr{Cvoid}
end

# Where an address' library begins; C_NULL if it belongs to none.
function library_of(address::Ptr{Cvoid})
    info = Ref(Symbolized(C_NULL, C_NULL, C_NULL, C_NULL))
    ccall(:dladdr, Cint, (Ptr{Cvoid}, Ptr{Symbolized}), address, info) == 0 && return C_NULL
    return info[].base
end

const FIELDS = map((:invoke, :specptr)) do name
    fieldoffset(Core.CodeInstance, findfirst(==(name), fieldnames(Core.CodeInstance))::Int)
end

addresses(code::Core.CodeInstance) =
    map(offset -> unsafe_load(Ptr{Ptr{Cvoid}}(pointer_from_objref(code) + offset)), FIELDS)

# Core, Base and Main have no uuid.
function owner(method::Method)
    id = Base.PkgId(root(method.module))
    return (id.uuid === nothing ? "" : string(id.uuid), id.name)
end

function gather(base::Ptr{Cvoid})
    found = Dict{Ptr{Cvoid},Tuple{String,String}}()
    methods = Dict{Tuple{String,String},Int}()
    visit_methods() do method
        of = owner(method)
        for instance in Base.specializations(method)
            (instance === nothing || !isdefined(instance, :cache)) && continue
            code = instance.cache
            compiled = false
            while code isa Core.CodeInstance
                for address in addresses(code)
                    (address == C_NULL || library_of(address) != base) && continue
                    found[address] = of
                    compiled = true
                end
                isdefined(code, :next) || break
                code = code.next
            end
            methods[of] = get(methods, of, 0) + compiled
        end
    end
    return found, methods
end

# The packages of an image sleep until they are loaded.
revealed() = foreach(((id, m),) -> id.name == "AutoimageRecorder" && m.reveal(), collect(Base.loaded_modules))

# Code that no method of a table leads to lies between, too (C entry points, clones for other processors): what is
# longer than any function is not put down to the one before it.
const LONGEST = 256 * 1024

function main(report)
    image = unsafe_string(Base.JLOptions().image_file)
    base = C_NULL
    handle = Base.Libc.Libdl.dlopen(image)
    for name in (:jl_image_pointers, :jl_sysimg_gvars_base, :jl_sysimg_fvars_base, :jl_system_image_data)
        symbol = Base.Libc.Libdl.dlsym(handle, name; throw_error = false)
        symbol === nothing || (base = library_of(symbol); break)
    end
    revealed()
    base == C_NULL && error("the image has none of the symbols that it is known by")
    found, methods = gather(base)
    ordered = sort!(collect(keys(found)))
    bytes = Dict{Tuple{String,String},Int}()
    for (number, address) in enumerate(ordered)
        next = number < length(ordered) ? ordered[number+1] : address
        size = Int(next - address)
        of = found[address]
        bytes[of] = get(bytes, of, 0) + (size > LONGEST ? 0 : size)
    end
    open(report, "w") do io
        for (of, size) in bytes
            item(io, "held", of..., get(methods, of, 0), size)
        end
        item(io, "end", "")
    end
end

end

Contents.main(ARGS[1])
