"""The commands, a module for each kind; `main` puts them together."""
