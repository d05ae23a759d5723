"""From a command line to stage directories: composes the configuration and runs the stages."""
