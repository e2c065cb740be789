"""From ONNX to our graph. The only folder of the compiler that imports onnx."""
