# The internals of Julia that this package touches: none is promised to stay. What each is needed for, what becomes of
# that where it is gone (never an error in a program), and whether this Julia has it. docs/versions.md has the table,
# too; on a Julia that is new to us `doctor` and the tests name what it lacks.
module Internals

include("versions.jl")

has(m, names...) = all(name -> isdefined(m, name), names)
field(type, names...) = all(in(fieldnames(type)), names)

# name, needed for, without it, test
const TABLE = [
    ("Base.package_callbacks", "the packages that a process loads", "they are not recorded",
        :(has(Base, :package_callbacks, :loaded_modules) && Base.package_callbacks isa Vector)),
    ("Base.in_sysimage", "telling packages of the image from others", "packages are not recorded",
        :(hasmethod(Base.in_sysimage, Tuple{Base.PkgId}))),
    ("Base.root_module", "calling the recorder in an image", "the recorder is evaluated anew at each start",
        :(hasmethod(Base.root_module, Tuple{Base.PkgId}))),
    ("Base.cumulative_compile_time_ns", "what compilation cost a run", "runs are recorded without costs",
        :(has(Base, :cumulative_compile_time_ns, :cumulative_compile_timing))),
    ("JLOptions.trace_compile", "attach(), detach()", "a Julia that is up already is not recorded",
        :(field(Base.JLOptions, :trace_compile))),
    ("Base.Experimental.@compiler_options", "evaluating the recorder without compiling it", "starts are not recorded",
        :(has(Base.Experimental, Symbol("@compiler_options")))),
    ("Method.nospecialize", "one compiled caller for all functions that Python calls", "first calls compile one each",
        :(field(Method, :nospecialize) && ismutabletype(Method) && hasmethod(Base._methods_by_ftype, Tuple{Any,Int,UInt}))),
    ("MethodInstance.cache", "what a run only inferred; slim images; contents", "none of the three",
        :(field(Core.MethodInstance, :cache) && has(Base, :specializations, :visit))),
    ("_jl_taggedvalue_bits.in_image", "what a run only inferred", "it is not noted", :(knows_images())),
    ("Core.Compiler.typeinf_type", "baking what has no code, but a result that is asked for", "each process infers it anew",
        :(hasmethod(Core.Compiler.typeinf_type, Tuple{Core.Compiler.NativeInterpreter,Method,Any,Core.SimpleVector}))),
    ("jl_static_show", "printing it as Julia's trace does", "it is not noted", :(cglobal(:jl_static_show) != C_NULL)),
    ("Base._tryrequire_from_serialized", "loading layers without waiting for a precompilation", "no layer is used",
        :(hasmethod(Base._tryrequire_from_serialized, Tuple{Base.PkgId,String,String}) &&
          has(Base, :find_all_in_cache_path, :ocachefile_from_cachefile, :require_lock))),
    ("Base.compilecache", "precompiling layers", "no layer is built",
        :(hasmethod(Base.compilecache, Tuple{Base.PkgId}) && has(Base, :cache_dependencies, :pkgorigins))),
    ("Base.parse_cache_header", "what packages are made of", "files outside of a package's directory are not minded",
        :(hasmethod(Base.parse_cache_header, Tuple{String}) && field(Base.CacheHeaderIncludes, :filename) &&
          has(Base, :pkgorigins) && field(Base.PkgOrigin, :cachepath))),
    ("Base.parsed_toml", "the version of the syntax of own code (1.14)", "own code is evaluated in each process",
        :(has(Base, :parsed_toml))),
    ("Base._require_dependencies", "the files and packages of own code", "own code is evaluated in each process",
        :(has(Base, :_require_dependencies, :_track_dependencies, :binunpack))),
    ("Base.unreference_module", "own code as a module that is nobody's child", "own code is evaluated in each process",
        :(has(Base, :unreference_module, :__toplevel__))),
    ("Expr(:module)", "modules of own code, of three parts or of four", "own code is evaluated in each process",
        :(Meta.parse("module M end").args[end] isa Expr && Meta.parse("module M end").args[end-1] === :M)),
    ("Base.__require_prelocked", "letting the packages of an image sleep", "they are loaded as Julia starts",
        :(hasmethod(has(Base, :_require) ? Base._require : Base.__require_prelocked, Tuple{Base.PkgId,Any}) &&
          has(Base, :loaded_modules_order, :register_root_module, :EXT_PRIMED, :EXT_DORMITORY, :_require_prelocked))),
    ("uv_loop_t.active_handles", "seeing that a package leaves a timer or a server running", "a layer waits for it until its limit of time",
        :(has(Base, :eventloop) && unsafe_load(Ptr{Cuint}(Base.eventloop() + sizeof(Ptr{Cvoid}))) < 1000)),
    ("jl_method_table_insert", "taking back what a sleeping package adds to functions of others", "it is there as Julia starts",
        :(cglobal(:jl_method_table_insert) != cglobal(:jl_method_get_table) && field(Method, :primary_world))),
    ("Base.Linking", "where Julia's linker is", "images are linked with gcc or clang", :(has(Base, :Linking))),
    ("Base.module_build_id", "telling one base image from another", "there is no image", :(has(Base, :module_build_id))),
    ("Base.GIT_VERSION_INFO", "telling one build of Julia from another", "there is no image",
        :(field(typeof(Base.GIT_VERSION_INFO), :commit))),
    ("CodeInstance.invoke", "what of an image is whose (`status --contents`)", "it is not told",
        :(field(Core.CodeInstance, :invoke, :specptr, :next))),
]

function lacking()
    there(test) =
        try
            Core.eval(Internals, test) === true
        catch
            false
        end
    return [(name, without) for (name, _, without, test) in TABLE if !there(test)]
end

end
