"""How often a method is right, and at what cost."""
