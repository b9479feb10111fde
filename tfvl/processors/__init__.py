"""What the models' processors share: a text's inputs and an image's or its regions'. Imports detector and below."""
