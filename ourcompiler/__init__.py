"""The in-house compiler: ONNX in, generated C out. It arrives with its first pass; nothing here yet."""
