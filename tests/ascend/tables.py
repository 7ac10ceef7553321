"""What MindSpore 2.7.2's Ascend plugin and CANN's documents allow, as docs/ascend.md cites them.

An operator with a kernel of the fast kind (aclnn) takes every dtype we use. The others run as
kernels that are launched slowly; the plugin's prototypes say which dtypes their first input takes.
"""

FLOATS = ("Float32", "Float16", "BFloat16")
WHOLE = ("Int32", "Int64", "Bool")

ACLNN = (
    "Add", "AddRmsNorm", "ArgMax", "ArgMaxExt", "ArgMaxWithValue", "ArgMinWithValue", "BatchMatMul",
    "BroadcastTo", "Cast", "Concat", "CumsumExt", "Div", "DropoutExt",
    "DropoutGradExt", "Equal", "Exp", "FuncDropoutExt",
    "FlashAttentionScore", "FlashAttentionScoreGrad", "FusedInferAttentionScore", "GatherD",
    "Greater", "GreaterEqual", "GroupNorm", "KVCacheScatterUpdate", "Less", "LessEqual", "Log",
    "LogicalAnd", "LogicalOr", "MatMul", "Maximum", "Minimum", "Mul", "Muls", "Narrow", "Neg",
    "NotEqual", "ReLU", "ReduceMax", "ReduceSum", "RmsNorm", "RmsNormGrad",
    "RotaryPositionEmbedding", "Rsqrt", "Select", "SiLU", "SiLUGrad", "Sigmoid", "Softmax",
    "SortExt", "SplitWithSize", "Sub", "SumExt", "Swiglu", "TopkExt", "Transpose",
    "WeightQuantBatchMatmul",
)  # fmt: skip

ACLOP = {
    "AddN": (*FLOATS, *WHOLE),
    "Argmin": FLOATS,
    "Assign": (*FLOATS, *WHOLE),
    "BiasAdd": FLOATS,
    "Conv2D": FLOATS,
    "Conv3D": ("Float16",),  # nn.Conv3d's document; the plugin's prototype allows bfloat16, too
    "Dropout": ("Float16", "Float32"),
    "DropoutGrad": ("Float16", "Float32"),
    "ExpandDims": (*FLOATS, *WHOLE),  # a view
    "Gather": (*FLOATS, *WHOLE),
    "Generator": ("Int64",),  # the seed of dropout, on the host
    "GatherNd": (*FLOATS, *WHOLE),
    "ScatterNdUpdate": (*FLOATS, *WHOLE),
    "ScatterUpdate": (*FLOATS, *WHOLE),
    "Slice": (*FLOATS, *WHOLE),
    "Split": (*FLOATS, *WHOLE),
    "StridedSlice": (*FLOATS, *WHOLE),
    "TensorScatterElements": ("Float16", "Float32"),
    "TensorScatterAdd": ("Float16", "Float32", "Int32"),
    "TensorScatterUpdate": (*FLOATS, *WHOLE),
    "Tile": (*FLOATS, *WHOLE),
    "TopK": ("Float16", "Float32"),
    "TensorMove": (*FLOATS, *WHOLE),  # a copy, which MindSpore 2.10 puts into graphs
    "UnsortedSegmentSum": FLOATS,
}

# What MindSpore 2.10 compiles to in their place: fast kernels, whose headers it ships, and views.
NEWER = {
    "EqScalar": "Equal",
    "LessScalar": "Less",
    "NarrowView": "Narrow",
    "SplitWithSizeView": "SplitWithSize",
}


def refused(operators) -> list:
    """Those of recorded operators that no document allows."""
    return [
        (each.name, each.dtype)
        for each in operators
        if NEWER.get(each.name, each.name) not in ACLNN
        and each.dtype not in ACLOP.get(each.name, ())
    ]
