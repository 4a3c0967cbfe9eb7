# Runs in the builder's project: hands one generated project to PackageCompiler.
#
#     julia --project=BUILDER build_image.jl PROJECT LIBRARY SCRIPT CPU_TARGET [code generation flags...] -- PACKAGE...
using PackageCompiler

let (project, library, script, cpu_target) = ARGS[1:4], rest = ARGS[5:end]
    split = findfirst(==("--"), rest)::Int
    PackageCompiler.create_sysimage(
        String.(rest[split+1:end]);
        project,
        sysimage_path = library,
        script,
        cpu_target,
        sysimage_build_args = Cmd(String.(rest[1:split-1])),
        import_into_main = false, # an image must not change which names exist in Main
    )
end
