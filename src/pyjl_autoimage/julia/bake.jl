# Runs at the end of the Julia process that writes the image: compiles the recorded statements into it and
# reports what the image really holds.
#
# PackageCompiler would evaluate a line of a statements file as it stands. A recording is data: only
# `precompile` of a type is accepted, and the type is built from nothing but names and literals.
module Bake

include("callers.jl")

const NUMBERS = (:Int8, :Int16, :Int32, :Int64, :Int128, :UInt8, :UInt16, :UInt32, :UInt64, :UInt128, :Float16, :Float32, :Float64, :Char, :Bool)

istype(::Any) = false
istype(::Union{Symbol,Number,Char,String,Bool}) = true
istype(quoted::QuoteNode) = quoted.value isa Symbol
function istype(ex::Expr)
    if ex.head === :call
        # A handful of calls occur in printed types: typeof(f), Symbol("#1"), -1, Int32(1), and bounds.
        f = ex.args[1]
        f === :typeof && return length(ex.args) == 2 && istype(ex.args[2])
        f === :Symbol && return length(ex.args) == 2 && ex.args[2] isa String
        (f === :- || f === :+ || f in NUMBERS) && return length(ex.args) == 2 && ex.args[2] isa Union{Number,Char}
        return false
    elseif ex.head === :.
        return length(ex.args) == 2 && isname(ex.args[1]) && ex.args[2] isa QuoteNode && istype(ex.args[2])
    elseif ex.head === :comparison
        return all(arg -> arg === :<: || arg === :>: || istype(arg), ex.args)
    else
        return ex.head in (:curly, :tuple, :where, :<:, :>:) && all(istype, ex.args)
    end
end
isname(ex) = ex isa Symbol || (ex isa Expr && ex.head === :. && istype(ex))

# The type in "precompile(Tuple{...})", or nothing if the line is anything else.
function parse_statement(line)
    ex = Meta.parse(line; raise = false)
    ex isa Expr && ex.head === :call && length(ex.args) == 2 && ex.args[1] === :precompile || return nothing
    type = ex.args[2]
    return type isa Expr && type.head === :curly && istype(type) ? type : nothing
end

# Packages are known to each other by name, so names at the root of a type are looked up among what is loaded.
function evaluate(staging, type)
    while true
        try
            return Core.eval(staging, type)
        catch err
            err isa UndefVarError || return nothing
            candidates = [m for (id, m) in Base.loaded_modules if id.name == String(err.var)]
            (length(candidates) == 1 && !isdefined(staging, err.var)) || return nothing
            Core.eval(staging, Expr(:const, Expr(:(=), err.var, only(candidates))))
        end
    end
end

# The type that a line names: nothing if it is anything else, or names what is not there.
function named(line, staging)
    type = parse_statement(line)
    type === nothing && return nothing
    tuple = Base.invokelatest(evaluate, staging, type)
    return tuple isa Type && tuple <: Tuple ? tuple : nothing
end

compile(::Nothing) = false
compile(@nospecialize(tuple::Type)) =
    try
        precompile(tuple)::Bool
    catch
        false
    end

# Code is compiled for what a call brings along. Where little is known of that ahead (a column is an AbstractVector), the
# callee is inferred all the same, with all that it may reach; there is nothing to compile, and `precompile` refuses it. If
# the image lacks the result, whoever makes such a call next infers it anew.
infer(::Nothing) = false
infer(@nospecialize(tuple::Type)) =
    try
        method = which(tuple)
        type, parameters = ccall(:jl_type_intersection_with_env, Any, (Any, Any), tuple, method.sig)::Core.SimpleVector
        Core.Compiler.typeinf_type(Core.Compiler.NativeInterpreter(), method, type, parameters) !== nothing
    catch
        false
    end

# No recording has what our own recorder needs; every start on the image calls it.
function compile_recorder(recorder)
    precompile(recorder.start, (String,))
    precompile(recorder.note, (Base.PkgId,))
    precompile(recorder.note_compiled, ())
    precompile(recorder.note_inferred, (String, Float64))
    precompile(recorder.unspecialize_callers, ())
    precompile(recorder.use_layer, (String,))
    precompile(recorder.load_statements, (Base.PkgId,))
    precompile(recorder.load_cached, (Base.PkgId,))
    precompile(recorder.load_cached, (String, String))
    precompile(Base._tryrequire_from_serialized, (Base.PkgId, String, String))
end

field(x) = escape_string(string(x))

function bake(statements, report)
    unspecialize_callers() # before anything of them is compiled; an image keeps it
    staging = Module(:AutoimageStaging)
    lines = readlines(statements)
    println("[autoimage] statements 0/", length(lines))
    flush(stdout)
    open(report, "w") do io
        for (number, line) in enumerate(lines)
            tuple = named(line, staging)
            compile(tuple) || println(io, infer(tuple) ? "inferred\t" : "unresolved\t", number)
            if number % 200 == 0
                println("[autoimage] statements ", number, '/', length(lines))
                flush(stdout)
            end
        end
        for (id, loaded) in Base.loaded_modules
            id.name == "AutoimageRecorder" && compile_recorder(loaded)
            (id.uuid === nothing || Base.in_sysimage(id)) && continue
            version = pkgversion(loaded)
            source = pkgdir(loaded)
            println(io, "loaded\t", id.uuid, '\t', field(id.name), '\t',
                version === nothing ? "" : field(version), '\t', source === nothing ? "" : field(source))
        end
        println(io, "end")
    end
    println("[autoimage] native code")
    flush(stdout)
end

end
