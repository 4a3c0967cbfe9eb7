# Python's calls of Julia functions go through these methods of PythonCall. Each is compiled anew for every function
# that is called, and infers that function for arguments of type Any, with all that it might reach, for code that
# never runs: on Julia 1.12 most of what a program's own function costs when it is first called.
const CALLERS = (:pyjlany_call, :pyjlany_call_nogil, :pyjlraw_call, :pyjlraw_call_nogil, :pyjlcallback_call)

const PYTHONCALL = Base.PkgId(Base.UUID("6099a3de-0909-46bc-b1f4-468b9a2dfc0d"), "PythonCall")

# Has them compiled once, for whatever is called: as if PythonCall said `@nospecialize self`. Nothing is redefined, so
# nothing that is compiled already is lost. A method of another shape than we know is left alone.
function unspecialize_callers(pythoncall = get(Base.loaded_modules, PYTHONCALL, nothing))
    pythoncall isa Module && isdefined(pythoncall, :JlWrap) && isdefined(pythoncall, :Py) || return nothing
    for name in CALLERS
        try
            unspecialize(getfield(pythoncall.JlWrap, name), pythoncall.Py)
        catch # it is gone, or Julia's methods are not what they were: calls are compiled as they are without us
        end
    end
    return nothing
end

function unspecialize(@nospecialize(caller), @nospecialize(py))
    signature = Tuple{typeof(caller),Any,py,py}
    found = Base._methods_by_ftype(signature, -1, Base.get_world_counter())
    found isa Vector && length(found) == 1 && found[1].method.sig == signature || return nothing
    found[1].method.nospecialize |= one(found[1].method.nospecialize) # the first bit is the first argument's
    return nothing
end
