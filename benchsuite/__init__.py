"""How it is measured: cells, blocks, statistics, devices, the journal."""
