"""Whether a map depends on what the network learned and on the class that is explained."""
