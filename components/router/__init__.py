"""The router: the route table, its way to and from the bus, and its way into nginx."""
