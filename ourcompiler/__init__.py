"""The in-house compiler: ONNX in, generated C out. So far: graphs, operators, their reference, and the way in."""
