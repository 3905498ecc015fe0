"""Both stages of internalizing a debate, and the table that compares them."""
