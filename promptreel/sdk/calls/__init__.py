"""What each method asks of the service, as values: a module for each kind of resource, a function for each method."""
