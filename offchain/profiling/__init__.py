"""What a connection's consumption looks like, what it is made of, and how it answers to orders."""
