"""What may try to break in, and what comes of it (`make drill-intrusion`): tables of attempts, and what carries them out."""
