"""Choice of method, step and number of seeds, measured on planted or confirmed captions."""
