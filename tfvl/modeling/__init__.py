"""What a model is to Keras: base class, configuration, loss, optimizer, LoRA. Imports porting and below."""
