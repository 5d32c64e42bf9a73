"""Jobs: the parts of an operation, the journal that records them, and the engine that carries them out."""
