"""Raw texts, images and regions to tensors, in the graph and before it. Imports porting and below."""
