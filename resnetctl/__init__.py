"""Train a ResNet on ImageNet, or on your own image folders, from the archive to an evaluated model."""

__version__ = "0.1.0"
