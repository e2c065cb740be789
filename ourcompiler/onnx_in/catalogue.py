"""Every operator of ONNX that the compiler takes, and why it refuses some others."""

from collections.abc import Mapping
from types import MappingProxyType

from ourcompiler.onnx_in import (
    attention,
    einsum,
    losses,
    movement,
    neural,
    normalization,
    pointwise,
    quantized,
    recurrent,
    resize,
    sampling,
    selection,
    signal,
    stateful,
)
from ourcompiler.onnx_in.site import Convert

FAMILIES = (
    pointwise,
    movement,
    selection,
    resize,
    sampling,
    neural,
    normalization,
    attention,
    einsum,
    recurrent,
    stateful,
    quantized,
    signal,
    losses,
)

CONVERTERS: Mapping[str, Convert] = MappingProxyType(
    {name: convert for family in FAMILIES for name, convert in family.ROWS.items()}
)
"""By the name of the operator, in the standard's own domain."""

CONTROL_FLOW = "control flow is not compiled: export the network with the branch or loop unrolled"
SEQUENCES = "sequences and optional values are not compiled: make each of them an input or output"
STRINGS = "strings are not compiled: keep text processing out of the network"
RANDOM = "random numbers are not compiled: make them an input of the network"
TRAINING = "operators of training are not compiled: export the network for inference"
DATA_SHAPES = "the shape of its result depends on the data: cut the network before it"
IMAGES = "files of images are not compiled: decode them outside, and make the pixels an input"
RARE = "nobody needed it so far: export the network with primitive operators in its place"
PREVIEW = "operators of the preview domains are not compiled: export with those of the standard"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(["Loop", "Scan"], CONTROL_FLOW),
        **dict.fromkeys(
            [
                "SequenceAt",
                "SequenceConstruct",
                "SequenceEmpty",
                "SequenceErase",
                "SequenceInsert",
                "SequenceLength",
                "SequenceMap",
                "ConcatFromSequence",
                "SplitToSequence",
                "Optional",
            ],
            SEQUENCES,
        ),
        **dict.fromkeys(
            [
                "StringConcat",
                "StringNormalizer",
                "StringSplit",
                "RegexFullMatch",
                "TfIdfVectorizer",
                "LabelEncoder",
            ],
            STRINGS,
        ),
        **dict.fromkeys(
            [
                "RandomNormal",
                "RandomNormalLike",
                "RandomUniform",
                "RandomUniformLike",
                "Multinomial",
                "Bernoulli",
            ],
            RANDOM,
        ),
        **dict.fromkeys(["Adagrad", "Adam", "Momentum", "Gradient"], TRAINING),
        **dict.fromkeys(["Unique", "NonMaxSuppression"], DATA_SHAPES),
        "ImageDecoder": IMAGES,
        **dict.fromkeys(["Det", "MaxRoiPool"], RARE),
        "FlexAttention": PREVIEW,
    }
)
FOREIGN = "only operators of the standard are compiled: export without those of a framework or a library"
OTHERWISE = "see `ourcompiler/onnx_in/catalogue.py` for what there is, or export with primitive operators"
