"""The common parts of all models: base class, configuration, loss, optimizer, LoRA. Imports porting and below."""
