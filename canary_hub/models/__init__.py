"""The components and stacks that ship with the package, registered like any other plugin's."""
