"""Jobs: what an operation is made of, the journal it is written to, and the engine that works through it."""
