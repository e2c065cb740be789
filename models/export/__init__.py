"""How the pinned graphs were made; needs the `export` extra (PyTorch), never needed to run."""
