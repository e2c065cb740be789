"""Where it is measured: one protocol, one file a kind of device."""
