"""The commands' common command line, and commands that other code starts in processes of their own."""
