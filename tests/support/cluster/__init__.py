"""Real clusters of several nodes on this machine, and a browser that looks at them."""
