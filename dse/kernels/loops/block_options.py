"""Places of a block quantizer's options in the two arrays that the loops read.

Of numbers, float32: the element format's largest value, 2^emin, 2^-man, and offset and threshold of its rounding; the
same of the scale format, with its smallest value and what stands for a scale of zero; the gain on the encode factor, a
candidate's gain and its inverse; c and its inverse, T c, and c T or 1 that g is divided by; what Z is divided by first
(0: nothing) and times what then. Of whole numbers, int64: yes or no, and the random bits of an element.
"""

FLOATS = (
    "HIGH", "LEAST", "UNIT", "OFFSET", "THRESHOLD",
    "SCALE_LOW", "SCALE_HIGH", "SCALE_LEAST", "SCALE_UNIT", "SCALE_OFFSET", "SCALE_THRESHOLD", "SCALE_ZERO",
    "OVERALL", "GAIN", "UNDO", "C", "INVERSE_C", "TARGET", "DIVISOR", "BASE", "RATIO",
)  # fmt: skip
(
    HIGH, LEAST, UNIT, OFFSET, THRESHOLD,
    SCALE_LOW, SCALE_HIGH, SCALE_LEAST, SCALE_UNIT, SCALE_OFFSET, SCALE_THRESHOLD, SCALE_ZERO,
    OVERALL, GAIN, UNDO, C, INVERSE_C, TARGET, DIVISOR, BASE, RATIO,
) = range(len(FLOATS))  # fmt: skip
INTEGERS = ("NEAREST", "SCALE_NEAREST", "UNQUANTIZED", "HIDES", "ENCODES", "RANDOM_BITS")
NEAREST, SCALE_NEAREST, UNQUANTIZED, HIDES, ENCODES, RANDOM_BITS = range(len(INTEGERS))
