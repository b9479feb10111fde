"""The shared parts of the models' processors, for texts, images and regions. Imports detector and below."""
