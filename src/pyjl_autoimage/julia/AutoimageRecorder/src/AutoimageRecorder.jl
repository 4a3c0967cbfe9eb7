module AutoimageRecorder

include("recorder.jl")
include("layer.jl")

end
