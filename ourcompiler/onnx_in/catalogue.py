"""Every operator of ONNX that the compiler takes, and why it refuses some others."""

from collections.abc import Mapping
from types import MappingProxyType

from ourcompiler.onnx_in import movement, neural, pointwise
from ourcompiler.onnx_in.site import Convert

CONVERTERS: Mapping[str, Convert] = MappingProxyType({**pointwise.ROWS, **movement.ROWS, **neural.ROWS})
"""By the name of the operator, in the standard's own domain."""

CONTROL_FLOW = "control flow is not compiled: export the network with the branch or loop unrolled"
SEQUENCES = "sequences and optional values are not compiled"
STRINGS = "strings are not compiled: keep text processing out of the network"
RANDOM = "random numbers are not compiled: make them an input of the network"
TRAINING = "operators of training are not compiled: export the network for inference"
DATA_SHAPES = "the shape of its result depends on the data"

REFUSED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("If", "Loop", "Scan"), CONTROL_FLOW),
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
                "OptionalGetElement",
                "OptionalHasElement",
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
            (
                [
                    "RandomNormal",
                    "RandomNormalLike",
                    "RandomUniform",
                    "RandomUniformLike",
                    "Multinomial",
                    "Bernoulli",
                ]
            ),
            RANDOM,
        ),
        **dict.fromkeys(["Adagrad", "Adam", "Momentum", "Gradient"], TRAINING),
        **dict.fromkeys(["NonZero", "Compress", "Unique", "NonMaxSuppression"], DATA_SHAPES),
    }
)
