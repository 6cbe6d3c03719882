"""From graphs to machine code: programs, backends, the store, and the compiled model."""
