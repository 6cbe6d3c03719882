"""What was written, checked: Equations, their inputs as SymPy, function or text, and losses."""
