"""What drives the network's forecast."""
