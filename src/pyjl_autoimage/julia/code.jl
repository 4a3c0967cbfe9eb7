# Evaluates a program's own Julia code the way the package that it will become is evaluated: as a module that is nobody's
# child. So the names in what is recorded now are those of the package, and nothing appears in Main.
module AutoimageCode

Base.Experimental.@compiler_options compile = min optimize = 0 infer = no

# What the last evaluation included and loaded, and the version of the syntax that it was parsed at, where there are
# several: items separated by NUL, "file=PATH", "package=NAME=UUID" and "syntax=VERSION"; "unknown=" where this Julia
# does not tell.
const FACTS = Ref{String}("")

facts() = FACTS[]

const TELLS = (:unreference_module, :__toplevel__, :_track_dependencies, :_require_dependencies, :binunpack)

function evaluate(name, path, text, packages)
    if !all(internal -> isdefined(Base, internal), TELLS)
        FACTS[] = "unknown="
        return Core.eval(Module(), Expr(:module, true, Symbol(name), body(String(path), text, String(packages))))
    end
    key = Base.PkgId(nothing, String(name))
    Base.unreference_module(key) # an earlier version of it: what holds it keeps it
    tracked, known = Base._track_dependencies[], length(Base._require_dependencies)
    as_written = module_in_main()
    Base._track_dependencies[] = true
    try
        Core.eval(Base.__toplevel__, alike(as_written, Symbol(name), body(String(path), text, String(packages))))
        return Base.loaded_modules[key]
    catch
        Base.unreference_module(key)
        rethrow()
    finally
        Base._track_dependencies[] = tracked
        noted = splice!(Base._require_dependencies, known+1:length(Base._require_dependencies))
        FACTS[] = syntax(as_written)
        for entry in noted # a plain loop: anything cleverer would have to be compiled
            FACTS[] = string(FACTS[], "\0", describe(entry, Symbol(name)))
        end
    end
end

# What Julia makes of a module in a file that Main includes. From 1.14 on it may begin with a version of Julia's syntax, at
# which the module parses what it includes in turn (`jl_eval_module_expr` in src/toplevel.c).
module_in_main() = Base.include_string(identity, Main, ":(module M end)", "string")

alike(as_written, name, body) = Expr(:module, as_written.args[1:end-2]..., name, body)

syntax(as_written) = as_written.args[1] isa VersionNumber ? string("syntax=", as_written.args[1]) : ""

function body(path, text, packages)
    block = Expr(:block, LineNumberNode(1, Symbol(path)))
    for package in split(packages)
        push!(block.args, Expr(:using, Expr(:., Symbol(package))))
    end
    code = text === nothing ? :(include($path)) : :($(Base.include_string)($(Expr(:macrocall, Symbol("@__MODULE__"), LineNumberNode(1))), $(String(text)), $path))
    push!(block.args, code)
    return block
end

# An entry of Base._require_dependencies: (module, path, ...), or (module, packed PkgId, ...) for a package.
function describe(entry, name)
    into, path = entry[1]::Module, entry[2]::String
    while parentmodule(into) !== into
        into = parentmodule(into)
    end
    if startswith(path, '\0')
        id = Base.binunpack(path)
        (nameof(into) === name && id.uuid !== nothing) || return ""
        return string("package=", id.name, '=', id.uuid)
    end
    return (nameof(into) === name || into === Main) ? string("file=", path) : ""
end

end
