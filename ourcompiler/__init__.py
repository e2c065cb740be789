"""The in-house compiler: ONNX in, generated C out. `ourcompiler.compile.compile(path).run(inputs)`."""
