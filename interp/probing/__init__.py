"""What can be decoded from activations, and what that is worth."""
