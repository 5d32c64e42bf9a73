"""The router: the route table, its exchange with the bus, and its exchange with nginx."""
