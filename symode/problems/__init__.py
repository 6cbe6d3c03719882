"""Problems: a model with data, noise and bounds, and what is estimated from them."""
