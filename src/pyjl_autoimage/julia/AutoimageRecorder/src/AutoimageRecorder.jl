module AutoimageRecorder

include("recorder.jl")

end
