"""Better graphs of the same meaning: rules as rows, an engine that applies them until none fits."""
