"""LXMERT: config, model, heads, weights, processor. Imports processors and below, and no other family."""
