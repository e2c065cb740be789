"""From fused nodes to kernels, and from kernels to C."""
