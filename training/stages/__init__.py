"""What is trained: first stage and prior."""
