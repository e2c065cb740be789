"""The in-house compiler: ONNX in, generated C out. So far: graphs, operators, their reference, the way in."""
