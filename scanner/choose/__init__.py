"""Which method, step and number of seeds to use, measured on planted or confirmed captions."""
