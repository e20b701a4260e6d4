"""The request of each method, as a value: a module for each kind of resource, a function for each method. Its arguments are
described at the method, in `promptreel.sdk.resources`."""
