"""The façade a user holds: Model."""
