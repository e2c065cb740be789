"""Why bytes are not an ONNX file, told from the outermost layer of the protobuf encoding."""

VARINT, BYTES = 0, 2
# Number and wire type of ModelProto's fields, from the ONNX specification (onnx.proto).
MODEL_FIELDS = dict.fromkeys((1, 5), VARINT) | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), BYTES)
GIT_LFS_POINTER = b"version https://git-lfs"


def describe_damage(data: bytes, *, has_parsed: bool) -> tuple[str, str]:
    """What is wrong with `data`, which did not parse as ONNX or holds no graph, and what to try."""
    if not data:
        return "the file is empty", "download or export it again"
    if data.startswith(GIT_LFS_POINTER):
        return "only a pointer of Git LFS, not the network itself", "run `git lfs pull` where it came from"
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        if MODEL_FIELDS.get(tag >> 3) != tag & 7:
            return "not an ONNX file", "export the network to ONNX; other formats are not read"
        length, position = _varint(data, position)
        if tag & 7 == BYTES:
            position += length
    if position > len(data):
        missing = position - len(data)
        return f"the file is cut short: {missing:,} bytes or more are missing", "download or export it again"
    what = "no graph inside" if has_parsed else "the file is damaged inside"
    return what, "download or export it again"


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at `position` and the position after it, which is past the end when the data ends inside."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            return value, len(data) + 1
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, position
