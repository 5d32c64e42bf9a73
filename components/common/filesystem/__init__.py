"""Files and trees: written whole, read and removed whatever a guest left in them, bounded in time and size."""
