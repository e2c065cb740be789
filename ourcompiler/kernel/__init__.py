"""The loop form of a network: kernels made of loops, loads and stores, before they are C."""
