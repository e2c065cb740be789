"""What is run: the 18 networks, pinned as graphs without weights, and any ONNX file of the user."""
