"""The command `ingot`, for everything that a person types. It imports libraries only and speaks HTTP to a controller."""
