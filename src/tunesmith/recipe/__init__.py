"""YAML and command-line words to plugins, every default with its source."""
