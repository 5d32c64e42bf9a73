"""The command `ingot`: everything a person types. It imports libraries only and speaks HTTP to a controller."""
