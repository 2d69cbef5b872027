"""A plugin that has to import torch to describe itself."""
