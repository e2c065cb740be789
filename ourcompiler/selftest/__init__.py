"""The compiler tries itself: samples of operators and random graphs, generated code against the reference."""
