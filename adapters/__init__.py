"""Who runs it: one file a framework behind one protocol, each in a worker process of its own."""
